"""`refine` on a tiny recipe: one prompt, a file, and whose answers are continued."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.kill_refine import measure
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
    refiner = Refiner.from_pretrained(trained / "refiner")
    assert {row["refiner"] for row in rows} == {refiner.identity()}
    found = refiner.refine([row["prompt"] for row in rows])
    assert [(row["refined"], row["reason"]) for row in rows] == [(item.refined, item.reason) for item in found]
    assert f"3 prompts in {target}: " in capsys.readouterr().out


def say(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Makes every language model say the same."""

    def complete(self: object, conversations: list[object], seeds: object, sampling: object, count: int) -> object:
        return [[answer] * count for _ in conversations]

    monkeypatch.setattr("rapo_lightning.models.pool.Lent.complete", complete)


def test_the_prompt_goes_to_stdout_and_the_reason_to_stderr(
    trained: Path, recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["refine", str(recipe), " a red ball ", "--out", str(trained), *ALLOW]
    for answer, out, err in [
        ("A red ball rolls.", "A red ball rolls.\n", ""),
        ("I cannot.", "a red ball\n", "answer: the model answered instead of rewriting. The prompt stays as it is.\n"),
        (" ".join(map(str, range(130))), " ".join(map(str, range(120))) + "\n", "cut: the model's answer had too many"),
    ]:
        say(monkeypatch, answer)
        assert main(command) == 0
        printed = capsys.readouterr()
        assert printed.out == out
        assert printed.err.startswith(err) if err else not printed.err


def test_candidates_are_chosen_by_the_recipes_embedder(
    trained: Path, recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["refine", str(recipe), "a red ball", "--out", str(trained), *ALLOW]
    say(monkeypatch, "something else entirely")
    assert main(command) == 0
    assert capsys.readouterr().out == "something else entirely\n"
    for option in (["--faithfulness", "0.5"], ["--candidates", "3"]):
        assert main([*command, *option]) == 0
        printed = capsys.readouterr()
        assert (printed.out, printed.err.split(":")[0]) == ("a red ball\n", "unfaithful")
    assert main([*command, "--candidates", "3", "--faithfulness", "-1"]) == 0
    assert capsys.readouterr().out == "something else entirely\n"


def test_bad_options_are_one_sentence(
    trained: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rapo_lightning.models.transformers_language.load_causal_model", None)
    source, spoiled = tmp_path / "in.csv", tmp_path / "latin.txt"
    source.write_text("prompt,refined,reason,refiner\na ball,,,\n")
    spoiled.write_bytes(b"a ball\n" * 20_000 + "caf\xe9".encode("latin-1"))
    begin = ["refine", str(recipe)]
    for arguments, message in [
        (["a ball", "--input", str(source)], "takes one prompt or `--input FILE`"),
        ([" "], "Got an empty one in the command line"),
        (["x" * 5000], "Got 5000 in the command line"),
        (["a ball", "--candidates", "0"], "Got candidates=0"),
        (["a ball", "--candidates", "many"], "candidates"),
        (["a ball", "--faithfulness", "2"], "is a cosine, from -1 to 1. Got 2"),
        (["a ball", "--faithfulness", "nan"], "faithfulness"),
        (["--input", str(tmp_path / "none.txt")], "which is not there"),
        (["--input", str(spoiled)], "must be UTF-8. Got a byte that is not at position 140003"),
        (["--input", str(source), "--output", str(source)], "must be another file than `--input`"),
        (["--input", str(source), "--output", str(tmp_path / "refiner.csv")], "must have the columns prompt, refined"),
    ]:
        (tmp_path / "refiner.csv").write_text("prompt,refined,refiner\na ball,a ball,one\n")
        assert main([*begin, *arguments, "--out", str(trained), *ALLOW]) == 2, arguments
        assert message in capsys.readouterr().err
    assert (tmp_path / "refiner.csv").read_text() == "prompt,refined,refiner\na ball,a ball,one\n"


def test_a_killed_run_goes_on_to_the_same_csv(language_model: Path, tmp_path: Path) -> None:
    outcomes = measure(2, 70, tmp_path, language_model, seed=1)
    assert len(outcomes) == 2
    assert all(outcome.equal and not outcome.leftovers for outcome in outcomes), outcomes


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
