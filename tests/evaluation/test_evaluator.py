"""The arms together: each base once, and nothing made again that a setting does not change."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from diffusers import DiffusionPipeline
from transformers import AutoModelForCausalLM

from rapo_lightning.cli import main
from rapo_lightning.data.resources import find
from rapo_lightning.models import DiffusersVideoModel
from relation_graph import build_graph, save_graph
from tests.helpers import WordEmbedder, tiny_recipe
from tests.stage3.runs import write_rounds

ALLOW = ("--allow_package", "tests")
ALL_ARMS = ["raw", "reference", "stage1", "refiner", "sspo", "refiner+sspo"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    rows = folder / "rows.csv"
    rows.write_text("Input,verb_obj_word,scenario_word,place\n1,['rolling along'],['calm'],in a dungeon\n")
    save_graph(build_graph([rows], WordEmbedder())[0], folder / "graph")
    return tiny_recipe(
        folder,
        language_model,
        graph=str(folder / "graph"),
        stage1={"instruct": {"max_new_tokens": 4}, "merge": {"max_new_tokens": 4}},
        stage2__rounds=2,
        stage3__epochs=1,
        evaluation__arms=ALL_ARMS,
        evaluation__limit=2,
    )


@pytest.fixture(scope="module")
def trained(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_rounds(tmp_path_factory.mktemp("trained"), recipe)
    assert main(["finetune", str(recipe), "--out", str(folder), *ALLOW]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def counting(monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], list[str]]:
    loads: Counter[str] = Counter()
    made: list[str] = []
    for kind in (DiffusionPipeline, AutoModelForCausalLM):
        load = kind.from_pretrained

        def count(path: Any, *args: Any, _load: Any = load, _kind: Any = kind, **options: Any) -> Any:
            loads[f"{_kind.__name__} {Path(str(path)).name}"] += 1
            return _load(path, *args, **options)

        monkeypatch.setattr(kind, "from_pretrained", count)
    generate = DiffusersVideoModel.generate

    def noting(self: DiffusersVideoModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        made.extend(prompts)
        return generate(self, prompts, seeds)

    monkeypatch.setattr(DiffusersVideoModel, "generate", noting)
    return loads, made


def test_each_base_is_loaded_once_for_all_arms(recipe: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A rewriter on the same base: three users of one language model, beside the video model.
    shutil.copytree(run / "refiner", run / "rewriter")
    fields = yaml.safe_load(recipe.read_text())
    fields["stage1"] |= {"rewriter": str(run / "rewriter"), "faithfulness": -1.0}
    changed = run / "with_rewriter.yaml"
    changed.write_text(yaml.safe_dump(fields))
    loads, _ = counting(monkeypatch)
    assert main(["evaluate", str(changed), "--out", str(run), *ALLOW]) == 0
    assert sorted(loads.values()) == [1, 1], loads
    results = json.loads((run / "results.json").read_text())
    assert list(results["arms"]) == ["raw", "reference", "stage1", "refiner", "sspo@2", "refiner+sspo@2"]
    assert all(arm["n"] == 2 for arm in results["arms"].values())


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
