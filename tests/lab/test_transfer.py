"""Refiners of two video models on both of them, with tiny stand-ins for the language model and one step of the video models."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from rapo_lightning.lab.reading import read_caption
from rapo_lightning.lab.scripts import train_second_model
from rapo_lightning.lab.scripts.transfer import main
from rapo_lightning.lab.study.runner import read_done
from rapo_lightning.lab.study.scale import Scale
from rapo_lightning.lab.tags import read_tags
from rapo_lightning.recipe.files import load_recipe
from tests.helpers import ROOT, tiny_recipe

ALLOW = ("--allow_package", "tests")
SMALL = Scale(
    {},
    (),
    training_seeds=2,
    group=1,
    written=1,
    video_seeds=1,
    epochs=(1, 1),
    filters=({"filter": "winner"},),
    transfer=3,
)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_both_refiners_on_both_models(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rapo_lightning.lab.scripts.transfer.TINY", SMALL)
    recipe = tiny_recipe(tmp_path, language_model, stage2__rounds=2, stage3__lora={"r": 2, "alpha": 2, "dropout": 0.0})
    out = tmp_path / "out"
    given = ["--out", str(out), "--tiny", "--recipe", str(recipe), *ALLOW]
    assert main(given) == 2
    assert "train it with `python -m rapo_lightning.lab.scripts.train_second_model`" in capsys.readouterr().err
    sizes = ["--clips", "4", "--shrink", "256", "--rank", "2", "--seconds", "0.2", "--check", "0"]
    train_second_model.main(["--work", str(tmp_path / "work"), "--out", str(out / "video_model"), *sizes])
    assert main([*given, "--list"]) == 0
    assert "evaluate-second" in capsys.readouterr().out
    assert main([*given, "--minutes", "0.02"]) == 1
    from rapo_lightning.running.interruption import INTERRUPTION

    # Not by `monkeypatch`, which would bring the request back.
    INTERRUPTION.requested = False
    assert main(given) == 0
    for name in ("heldout", "training"):
        first, second = (_rows(out / f"prompts/{name}-{model}.csv") for model in ("first", "second"))
        assert [row["prompt"] for row in first] == [row["prompt"] for row in second]
        assert [read_caption(row["reference"]) for row in first] == [read_tags(row["reference"]) for row in second]
    assert all(read_tags(row["caption"]) for row in _rows(out / "prompts/examples-second.csv"))
    assert all(read_tags(row["completion"]) for row in _rows(out / "finetune/second-references.csv"))
    kept = load_recipe(out / "recipes/lab-second.yaml")
    assert kept.video_model["init_args"]["checkpoint"] == str(out / "video_model")
    found, page = json.loads((out / "transfer.json").read_text()), (out / "transfer.md").read_text()
    for model in ("first", "second"):
        arms = found[model]["arms"]
        refiners = {f"{by}-{targets}" for by in ("first", "second") for targets in ("collected", "reference")}
        assert {"raw", "chance", "reference", "other-style", *refiners} == set(arms)
        assert all(arm["n"] == 3 for arm in arms.values())
        texts = {row["arm"]: row["text"] for row in _rows(out / f"evaluate-{model}/videos.csv")}
        assert (read_tags(texts["reference"]) is None) == (model == "first")
        assert (read_tags(texts["other-style"]) is None) == (model == "second")
        assert (out / f"transfer-{model}.png").stat().st_size > 1000
    assert "`second-collected` minus `first-collected`" in page
    assert "`first-reference` minus `second-reference`" in page
    done = read_done(out)
    capsys.readouterr()
    assert main(given) == 0
    assert "==" not in capsys.readouterr().out
    assert read_done(out) == done


def test_the_recipe_of_the_second_model_changes_what_it_must(tmp_path: Path) -> None:
    folder = tmp_path / "video_model"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    from rapo_lightning.lab.study.scale import FULL
    from rapo_lightning.lab.study.transfer import Transfer

    transfer = Transfer(tmp_path, str(ROOT / "recipes/lab.yaml"), folder, FULL, ["collected", "reference"])
    steps = [step.name for step in transfer.steps()]
    assert len(steps) == len(set(steps)) == 1 + 2 * (1 + 3 + 1 + 3) + 2
    recipes = {}
    for model in ("first", "second"):
        path = transfer._make.keep(model, transfer._fields(model))
        recipes[model] = load_recipe(path)
    first, second = recipes["first"], recipes["second"]
    assert first.stage1.rewriter == second.stage1.rewriter == first.stage2.rewriter == ""
    assert second.stage3.reader["class_path"].endswith("TagReader")
    assert first.video_model["init_args"] == {**second.video_model["init_args"], "checkpoint": "lab/video_model"}
    assert first.stage2.ranking == second.stage2.ranking
