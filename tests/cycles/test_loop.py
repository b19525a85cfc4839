"""The command `loop` on a tiny recipe: what it leaves, that it resumes, and what it refuses."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.models import DiffusersVideoModel, ModelPool
from rapo_lightning.stage3.export import copy_refiner
from rapo_lightning.verifiers import Judgement, View
from tests.helpers import tiny_recipe

ALLOW = ("--allow_package", "tests")
Options = Sequence[str]


class Brief:
    """Scores the prompt, higher the shorter it is: to a random model's few tokens a person's words lose."""

    name = "brief"

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        return [Judgement(1 - len(view.prompt) / 100) for view in views]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    metric = {"class_path": "tests.cycles.test_loop.Brief"}
    return tiny_recipe(
        tmp_path_factory.mktemp("recipe"), language_model,
        stage2__rounds=2, stage2__verifiers=[metric], stage3__epochs=1, evaluation__metric=metric, limit=4,
    )  # fmt: skip


@contextmanager
def noted() -> Iterator[list[str]]:
    """The texts of all videos that are made meanwhile."""
    texts: list[str] = []
    generate = DiffusersVideoModel.generate

    def noting(self: DiffusersVideoModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        texts.extend(prompts)
        return generate(self, prompts, seeds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiffusersVideoModel, "generate", noting)
        yield texts


@pytest.fixture
def made() -> Iterator[list[str]]:
    with noted() as texts:
        yield texts


def run(recipe: Path, out: Path, cycles: int, *options: str) -> int:
    return main(["loop", str(recipe), "--cycles", str(cycles), "--out", str(out), *options, *ALLOW])


ON = ("--stop", "false")
"""Whatever a cycle gains."""


@pytest.fixture(scope="module")
def short(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A loop of one cycle."""
    folder = tmp_path_factory.mktemp("short") / "loop"
    assert run(recipe, folder, 1, *ON) == 0
    return folder


@pytest.fixture(scope="module")
def continued(short: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The same, continued by another cycle, and the texts of the videos that this one made."""
    folder = Path(shutil.copytree(short, tmp_path_factory.mktemp("whole") / "loop"))
    with noted() as texts:
        assert run(recipe, folder, 2, *ON) == 0
    return folder, texts


@pytest.fixture
def whole(continued: tuple[Path, list[str]]) -> Path:
    return continued[0]


def contents(folder: Path) -> dict[str, bytes]:
    skipped = ("logs", ".lock")
    files = [path for path in folder.rglob("*") if path.is_file() and not set(skipped) & set(path.parts)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def same_copy(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.iterdir())
    return names == sorted(path.name for path in other.iterdir()) and not any(
        filecmp.cmpfiles(one, other, names, shallow=False)[1:]
    )


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "loop.json").read_text())


def test_a_later_cycle_starts_from_the_refiner_before_and_trains_on_all_rounds(whole: Path) -> None:
    first, second = (read_rows(whole / name / "trajectories") for name in ("cycle-1", "cycle-2"))
    assert all(row["prompt"] == row["source_prompt"] for row in first if not row["round"])
    kept = yaml.safe_load((whole / "cycle-2/recipe.yaml").read_text())
    assert kept["stage1"]["rewriter"] == str(whole / "cycle-1/refiner")
    assert kept["stage3"]["runs"] == [str(whole / "cycle-1"), str(whole / "cycle-2")]
    assert len(first) == len(second) == 4 * 2
    assert {row["prompt"] for row in second if not row["round"]} != {row["prompt"] for row in first if not row["round"]}
    card = (whole / "cycle-2/refiner/README.md").read_text()
    assert "16 rounds" in card
    # From the base, not from the adapter before.
    one, two = (yaml.safe_load((whole / name / "refiner/refiner.yaml").read_text()) for name in ("cycle-1", "cycle-2"))
    assert one["base_identity"] == two["base_identity"]


def test_the_loop_says_what_each_cycle_gained_and_ends_with_the_best(whole: Path) -> None:
    found = told(whole)
    assert found["stopped"] == "stopped after cycle 2: all 2 cycles are done"
    assert [item["over"] for item in found["cycles"]] == ["raw", "cycle-1"]
    assert all(item["pairs"] >= 1 and item["val_loss"] > 0 for item in found["cycles"])
    for item in found["cycles"]:
        results = json.loads((whole / item["folder"] / "results.json").read_text())
        assert {name: arm["mean"] for name, arm in item["arms"].items()} == {
            name: arm["mean"] for name, arm in results["arms"].items()
        }
    first = json.loads((whole / "cycle-1/results.json").read_text())
    gain, paired = found["cycles"][0]["gain"], first["paired"]["refiner - raw"]
    assert (gain["mean"], gain["n"]) == (pytest.approx(paired["mean"]), paired["n"])
    assert gain["ci95"] == pytest.approx(paired["ci95"])
    assert same_copy(whole / f"cycle-{found['best']}/refiner", whole / "refiner")


def test_other_commands_understand_the_loop_and_its_cycles(
    whole: Path, recipe: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(whole / "cycle-2")]) == 0
    assert "refiner" in (whole / "cycle-2/report/index.html").read_text()
    assert main(["refine", str(recipe), "a ball", "--out", str(whole), *ALLOW]) == 0
    # What the cycles were evaluated on is there, raw prompts too.
    arms = ["--evaluation.arms", "[raw, refiner]"]
    assert main(["evaluate", str(recipe), "--out", str(whole), *arms, *ALLOW]) == 0
    assert made == []
    shutil.rmtree(whole / "cycle-2/report")


def test_a_loop_that_is_done_makes_nothing_and_changes_nothing(whole: Path, recipe: Path, made: list[str]) -> None:
    before = contents(whole)
    assert run(recipe, whole, 2, *ON) == 0
    assert made == []
    after = contents(whole)
    # What differs is who wrote it last, not what is in it; and whose evaluation was the last, after the one above.
    last = {"loop.json", "evaluation/arms/refiner/latest.json"}
    assert {name for name in before | after if before.get(name) != after.get(name)} <= last
    assert told(whole)["best"] == json.loads(before["loop.json"])["best"]


def test_more_cycles_continue_and_nothing_that_is_there_is_made_again(
    short: Path, continued: tuple[Path, list[str]]
) -> None:
    folder, made = continued
    assert told(short)["stopped"] == "stopped after cycle 1: all 1 cycles are done"
    assert [item["cycle"] for item in told(folder)["cycles"]] == [1, 2]
    assert told(folder)["cycles"][0] == told(short)["cycles"][0]
    held_out = {row["source_prompt"] for row in read_rows(folder / "evaluation/arms/raw")}
    assert made
    assert not held_out & set(made)
    assert len(read_rows(folder / "evaluation/arms/raw")) == 3


def test_a_cycle_without_a_gain_ends_the_loop_and_says_so(
    whole: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "early"))
    flat = ["--evaluation.metric", json.dumps({"class_path": "rapo_lightning.verifiers.WordCount"})]
    assert run(recipe, folder, 2, *flat) == 0
    found = told(folder)
    assert "holds zero" in found["stopped"]
    assert len(found["cycles"]) == 1
    assert found["stopped"] in capsys.readouterr().out
    assert same_copy(folder / "cycle-1/refiner", folder / "refiner")
    # Cycles that are no longer counted are kept.
    assert (folder / "cycle-2/refiner").is_dir()


def test_a_loop_that_is_killed_again_and_again_comes_to_the_same_end(
    short: Path, whole: Path, recipe: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(short, tmp_path / "killed"))
    # In the middle of the second cycle's collection, after its training, and between its table and its refiner.
    for owner, name, call in (
        (DiffusersVideoModel, "generate", 2),
        (import_module("rapo_lightning.stage3.run"), "_export", 1),
        (import_module("rapo_lightning.cycles.folder"), "copy_refiner", 2),
    ):
        with _plug_pulled(owner, name, call), pytest.raises(SystemError, match="plug"):
            run(recipe, folder, 2, *ON)
    assert run(recipe, folder, 2, *ON) == 0
    told_here, told_there = (
        [{key: item[key] for key in ("pairs", "val_loss", "gain")} for item in told(path)["cycles"]]
        for path in (folder, whole)
    )
    assert told_here == told_there
    assert same_copy(folder / f"cycle-{told(folder)['best']}/refiner", folder / "refiner")
    assert not list(folder.glob("refiner.*"))


@contextmanager
def _plug_pulled(owner: Any, name: str, call: int) -> Iterator[None]:
    """Lets a function end with an error when it is called for that time."""
    calls, function = [], getattr(owner, name)

    def pulled(*arguments: object, **options: object) -> object:
        calls.append(name)
        if len(calls) == call:
            raise SystemError("pulled the plug")
        return function(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, pulled)
        yield


def test_a_copy_of_a_refiner_is_whole_or_not_there(whole: Path, tmp_path: Path) -> None:
    one, other = whole / "cycle-1/refiner", whole / "cycle-2/refiner"
    copy_refiner(one, tmp_path / "refiner")
    before = (tmp_path / "refiner").stat().st_mtime_ns
    copy_refiner(one, tmp_path / "refiner")
    assert (tmp_path / "refiner").stat().st_mtime_ns == before
    with _plug_pulled(shutil, "copytree", 1), pytest.raises(SystemError, match="plug"):
        copy_refiner(other, tmp_path / "refiner")
    assert same_copy(one, tmp_path / "refiner")
    copy_refiner(other, tmp_path / "refiner")
    assert same_copy(other, tmp_path / "refiner")
    assert [path.name for path in tmp_path.iterdir()] == ["refiner"]


def _other_refiner(folder: Path) -> None:
    shutil.copytree("ckpt/lab/refiner", folder / "refiner")


def _damaged(folder: Path) -> None:
    folder.mkdir()
    (folder / "loop.json").write_text('{"cycles": [')


def _longer(folder: Path) -> None:
    folder.mkdir()
    (folder / "loop.json").write_text(json.dumps({"cycles": [{"refiner": "a"}, {"refiner": "b"}]}))


@pytest.mark.parametrize(
    ("options", "prepare", "message"),
    [
        (["--cycles", "0"], None, "`--cycles` must be 1 or more. Got 0"),
        (["--evaluation.prompts", ""], None, "`evaluation.prompts`"),
        (["--evaluation.metric", "{}"], None, "`evaluation.metric"),
        (["--trainer.fast_dev_run", "true"], None, "Got `trainer.fast_dev_run`"),
        (["--evaluation.prompts", "recipes/lab/prompts_train.csv"], None, "Got 3 that are in both"),
        (["--stage2.verifiers", "[]"], None, "`stage2.verifiers` must name at least one"),
        (["--stage3.runs", "[runs/none]"], None, "Got 'runs/none'"),
        ([], _other_refiner, "Got one there that is none of its cycles'"),
        ([], _damaged, "must hold what `loop` writes"),
        ([], _longer, "Got 1 for"),
    ],
)
def test_what_cannot_work_is_one_sentence_before_a_model_loads(
    options: Options, prepare: Callable[[Path], None] | None, message: str, recipe: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(DiffusersVideoModel, "load", lambda self: pytest.fail("a model was loaded"))
    if prepare is not None:
        prepare(tmp_path / "loop")
    arguments = ["loop", str(recipe), "--cycles", "1", "--out", str(tmp_path / "loop"), *ALLOW, *options]
    assert main(arguments) == (1 if prepare is _damaged else 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("rapo-lightning: ")
    assert error.count("\n") == 1
