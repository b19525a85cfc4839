"""The arms together: each base once, and nothing made again that a setting does not change."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from rapo_lightning.cli import main
from rapo_lightning.data.resources import find
from rapo_lightning.data.store import read_parts
from rapo_lightning.models import DiffusersVideoModel
from rapo_lightning.stage1.rows import IDENTITY
from tests.evaluation.arms import ALLOW, SHOWN, counting


def test_each_base_is_loaded_once_for_all_arms(recipe: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A rewriter on the same base: three users of one language model, beside the video model.
    shutil.copytree(run / "refiner", run / "rewriter")
    fields = yaml.safe_load(recipe.read_text())
    fields["stage1"] |= {"rewriter": str(run / "rewriter"), "faithfulness": -1.0}
    changed = run / "with_rewriter.yaml"
    fields["evaluation"]["variants"] = {"plain": {"graph": "", "stage1.rewriter": str(run / "rewriter")}}
    changed.write_text(yaml.safe_dump(fields))
    loads, _ = counting(monkeypatch)
    assert main(["evaluate", str(changed), "--out", str(run), *ALLOW]) == 0
    assert sorted(loads.values()) == [1, 1], loads
    results = json.loads((run / "results.json").read_text())
    assert list(results["arms"]) == SHOWN
    assert all(arm["n"] == 2 for arm in results["arms"].values())
    assert results["seeds"] == 2
    # Without a graph nothing was retrieved, and the row says so.
    rows = read_parts(run / "evaluation/aligned", IDENTITY)
    assert {row["graph"]: bool(row["places"]) for row in rows} == {fields["graph"]: True, "": False}


def test_further_refiners_are_arms_on_one_base(recipe: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run / "refiner", run / "other")
    loads, _ = counting(monkeypatch)
    given = ["--evaluation.refiners", json.dumps({"same": str(run / "other"), "unused": str(run / "none")})]
    arms = ["--evaluation.arms", "[raw, refiner, same]"]
    assert main(["evaluate", str(recipe), "--out", str(run), *arms, *given, *ALLOW]) == 0
    results = json.loads((run / "results.json").read_text())
    assert list(results["arms"]) == ["raw", "refiner", "same"]
    # The same adapter in another folder: the same texts and videos, and both bases loaded once.
    assert results["arms"]["same"]["mean"] == results["arms"]["refiner"]["mean"]
    assert results["paired"]["same - refiner"]["ci95"] == [0, 0]
    assert sorted(loads.values()) == [1, 1], loads
    videos, scores = (list(csv.DictReader((run / name).open())) for name in ("videos.csv", "scores.csv"))
    assert len(videos) == 3 * 2 * 2
    for line in scores:
        for arm in ("raw", "refiner", "same"):
            of = [row for row in videos if (row["arm"], row["prompt_id"]) == (arm, line["prompt_id"])]
            assert np.mean([float(row["score"]) for row in of]) == pytest.approx(float(line[arm]), abs=1e-5)
            assert len({row["seed"] for row in of}) == 2
            assert arm != "raw" or {row["text"] for row in of} == {line["prompt"]}


def test_a_refiner_that_is_not_there_is_an_error(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--evaluation.refiners", json.dumps({"gone": str(tmp_path / "none")}), "--evaluation.arms", "[raw, gone]"]
    assert main(["evaluate", str(recipe), "--out", str(tmp_path), *given, *ALLOW]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_a_setting_of_stage_2_leaves_raw_and_reference_as_they_are(
    recipe: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = ["--evaluation.arms", "[raw, reference, refiner]"]
    assert main(["evaluate", str(recipe), "--out", str(run), *arms, *ALLOW]) == 0
    before = json.loads((run / "results.json").read_text())
    _, made = counting(monkeypatch)
    options = ["--stage2.candidates", "1", "--stage2.flow_seconds", "0.125", "--stage2.max_words", "9"]
    assert main(["evaluate", str(recipe), "--out", str(run), *arms, *options, *ALLOW]) == 0
    after = json.loads((run / "results.json").read_text())
    assert made == []
    assert before["arms"] == after["arms"]


def test_a_killed_evaluation_goes_on(recipe: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = ["--evaluation.arms", "[raw, reference]"]
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    assert main(["evaluate", str(recipe), "--out", str(whole), *arms, *ALLOW]) == 0
    generate, calls = DiffusersVideoModel.generate, []

    def pulled(self: DiffusersVideoModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        calls.append(prompts)
        if len(calls) == 2:
            raise SystemError("pulled the plug")
        return generate(self, prompts, seeds)

    monkeypatch.setattr(DiffusersVideoModel, "generate", pulled)
    with pytest.raises(SystemError, match="plug"):
        main(["evaluate", str(recipe), "--out", str(run), *arms, *ALLOW])
    monkeypatch.undo()
    assert main(["evaluate", str(recipe), "--out", str(run), *arms, *ALLOW]) == 0
    one, two = (json.loads((folder / "results.json").read_text())["arms"] for folder in (run, whole))
    assert {name: arm["mean"] for name, arm in one.items()} == {name: arm["mean"] for name, arm in two.items()}
    assert not (run / "pending").exists()


def test_short_options_mean_the_evaluations_own(recipe: Path, run: Path) -> None:
    arms = ["--evaluation.arms", "[raw]"]
    assert main(["evaluate", str(recipe), "--out", str(run), "--limit", "1", *arms, *ALLOW]) == 0
    assert json.loads((run / "results.json").read_text())["arms"]["raw"]["n"] == 1


def test_a_named_folder_without_a_refiner_is_an_error(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find("ckpt/lab/refiner") is not None
    assert main(["evaluate", str(recipe), "--out", str(tmp_path), *ALLOW]) == 2
    assert f"Got {tmp_path}, which has no folder `refiner`" in capsys.readouterr().err
