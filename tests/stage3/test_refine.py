"""`refine` on a tiny recipe: one prompt, a file, and whose answers are continued."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rapo_lightning import Refiner
from rapo_lightning.cli import main
from rapo_lightning.stage3.pairs import instruction

ALLOW = ("--allow_package", "tests")


def refine(recipe: Path, source: Path, target: Path, run: Path) -> int:
    return main(["refine", str(recipe), "--input", str(source), "--output", str(target), "--out", str(run), *ALLOW])


def test_refine_one_prompt_and_a_file(
    trained: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["refine", str(recipe), "a red ball", "--out", str(trained), *ALLOW]) == 0
    assert capsys.readouterr().out.strip()
    source, target = tmp_path / "in.txt", tmp_path / "out.csv"
    source.write_text("a red ball\na blue box\n")
    assert refine(recipe, source, target, trained) == 0
    source.write_text("a red ball\na blue box\na third\n")
    assert refine(recipe, source, target, trained) == 0
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows] == ["a red ball", "a blue box", "a third"]
    assert {row["refiner"] for row in rows} == {Refiner.from_pretrained(trained / "refiner").identity()}


def test_answers_of_another_refiner_are_not_continued(
    copied: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.csv"
    source.write_text("a red ball\n")
    assert refine(recipe, source, target, copied) == 0
    before = target.read_bytes()
    config = copied / "refiner/refiner.yaml"
    config.write_text(config.read_text().replace("max_new_tokens: 6", "max_new_tokens: 5"))
    assert refine(recipe, source, target, copied) == 2
    assert "choose another `--output` or delete the file" in capsys.readouterr().err
    assert target.read_bytes() == before


def test_a_run_without_a_refiner_is_named(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (str(recipe), "lab"):
        assert main(["refine", name, "a ball", "--out", str(tmp_path / "none"), *ALLOW]) == 2
        assert f"Got {tmp_path / 'none'}, which has no folder `refiner`" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["refine", str(recipe), "a ball", *ALLOW]) == 2
    assert "Got runs/tiny" in capsys.readouterr().err


def test_the_shipped_lab_recipe_may_take_the_shipped_refiner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rapo_lightning.commands.refine import refiner_folder
    from rapo_lightning.recipe.files import load_recipe, recipe_path

    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(recipe_path("lab"))
    assert refiner_folder(recipe, "").parts[-3:] == ("ckpt", "lab", "refiner")
    assert "the shipped ckpt/lab/refiner is used" in capsys.readouterr().err
    assert instruction(recipe.stage3)
