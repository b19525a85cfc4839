"""What is made again, and what is not: more rounds, another verifier, another setting, kills, lost videos."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from datasets import load_dataset

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import Row, read_rows
from rapo_lightning.models import DiffusersVideoModel
from rapo_lightning.running.interruption import INTERRUPTION
from rapo_lightning.stage2.judgements import judgement_columns
from rapo_lightning.verifiers import Judgement, View
from tests.helpers import tiny_recipe

ALLOW = ("--allow_package", "tests")
TIMES = ("seconds_generate", "seconds_judge", "seconds_rewrite")


class Brightness:
    """A verifier without a word of critique, so that it changes no rewrite."""

    name = "brightness"

    def judge(self, views: Sequence[View], models: object) -> list[Judgement]:
        return [Judgement(float(view.frames.mean()) / 255) for view in views]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("recipe"), language_model, limit=3)


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert main(["collect", str(recipe), "--out", str(folder), *ALLOW]) == 0
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The prompts that the video model was asked for."""
    asked: list[str] = []
    generate = DiffusersVideoModel.generate

    def counting(self: DiffusersVideoModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        asked.extend(prompts)
        return generate(self, prompts, seeds)

    monkeypatch.setattr(DiffusersVideoModel, "generate", counting)
    return asked  # type: ignore[return-value]


def collect(recipe: Path, folder: Path, *options: str) -> list[Row]:
    assert main(["collect", str(recipe), "--out", str(folder), *options, *ALLOW]) == 0
    return [
        {key: value for key, value in row.items() if key not in TIMES} for row in read_rows(folder / "trajectories")
    ]


def with_verifier(recipe: Path, target: Path, **more: Any) -> Path:
    fields = yaml.safe_load(recipe.read_text())
    fields["stage2"]["verifiers"].append({"class_path": f"{__name__}.Brightness"})
    fields["stage2"] |= more
    target.write_text(yaml.safe_dump(fields))
    return target


def test_more_rounds_continue_a_finished_run(recipe: Path, run: Path, made: list[str], tmp_path: Path) -> None:
    rows = collect(recipe, run, "--stage2.rounds", "5")
    new = [row["prompt"] for row in rows if row["round"] >= 3]
    assert sorted(made) == sorted(set(made))
    assert set(made) <= set(new)
    whole = collect(recipe, tmp_path / "whole", "--stage2.rounds", "5")
    assert rows == whole
    loaded = load_dataset("parquet", data_files=str(run / "trajectories/*.parquet"), cache_dir=str(tmp_path / "c"))
    assert len(loaded["train"]) == 15


def test_another_verifier_scores_the_videos_that_are_there(
    recipe: Path, run: Path, made: list[str], tmp_path: Path
) -> None:
    before = collect(recipe, run)
    rows = collect(with_verifier(recipe, tmp_path / "more.yaml"), run)
    assert made == []
    assert len(rows) == 2 * len(before)
    scored = [row for row in rows if row["score_brightness"] is not None]
    assert [row["prompt"] for row in scored] == [row["prompt"] for row in before]
    assert all(0 < row["score_brightness"] < 1 for row in scored)
    # Parts of both recipes have all columns, so that plain `datasets` reads them together.
    loaded = load_dataset("parquet", data_files=str(run / "trajectories/*.parquet"), cache_dir=str(tmp_path / "c"))
    assert len(loaded["train"]) == len(rows)


def test_a_changed_setting_reuses_what_it_does_not_change(recipe: Path, run: Path, made: list[str]) -> None:
    before = {row["prompt"] for row in collect(recipe, run)}
    rows = collect(recipe, run, "--stage2.candidates", "1")
    first = {row["prompt"] for row in rows if row["round"] == 0}
    assert first <= before
    assert not set(made) & before
    # Another seed: nothing can be reused, and nothing is overwritten.
    videos = {row["video"] for row in rows}
    again = collect(recipe, run, "--seed", "7")
    assert len({row["video"] for row in again}) > len(videos)
    assert all((run / row["video"]).is_file() for row in again)


@pytest.mark.parametrize("damage", ["deleted", "truncated", "empty"])
def test_a_lost_video_is_made_again(recipe: Path, run: Path, made: list[str], damage: str) -> None:
    before = collect(recipe, run)
    path = run / before[4]["video"]
    whole = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(whole[:-50] if damage == "truncated" else b"")
    assert collect(recipe, run) == before
    assert made == [before[4]["prompt"]]
    assert path.read_bytes() == whole


def test_rows_that_are_lost_come_back_from_the_records(recipe: Path, run: Path, made: list[str]) -> None:
    before = collect(recipe, run)
    shutil.rmtree(run / "trajectories")
    assert collect(recipe, run) == before
    assert made == []


def test_frames_put_aside_are_judged_after_a_kill_between_the_phases(
    recipe: Path, tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rapo_lightning.lab.verifier import LabOracle

    def killed(*_: object) -> None:
        raise SystemError("pulled the plug")

    monkeypatch.setattr(LabOracle, "judge", killed)
    with pytest.raises(SystemError, match="plug"):
        main(["collect", str(recipe), "--out", str(tmp_path / "k"), *ALLOW])
    monkeypatch.undo()
    assert len(list((tmp_path / "k/pending").glob("*.npy"))) == 2
    count = len(made)
    rows = collect(recipe, tmp_path / "k")
    assert count == 2
    assert rows == collect(recipe, tmp_path / "whole")
    assert not (tmp_path / "k/pending").exists()


def test_sigterm_ends_with_what_is_made_on_disk(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate = DiffusersVideoModel.generate

    def asked_to_end(self: DiffusersVideoModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        INTERRUPTION.requested = True
        return generate(self, prompts, seeds)

    monkeypatch.setattr(DiffusersVideoModel, "generate", asked_to_end)
    assert main(["collect", str(recipe), "--out", str(tmp_path / "t"), *ALLOW]) == 1
    assert "run the same command again to go on" in capsys.readouterr().err
    monkeypatch.undo()
    INTERRUPTION.requested = False
    generations = (tmp_path / "t/records/generations.0.jsonl").read_text().splitlines()
    assert len(generations) == 2
    assert collect(recipe, tmp_path / "t") == collect(recipe, tmp_path / "whole")


def test_schema_1_can_be_read_and_a_later_one_is_refused(
    recipe: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow
    import pyarrow.parquet

    def stamp(version: int) -> None:
        for path in (run / "trajectories").glob("*.parquet"):
            table = pyarrow.parquet.read_table(path)
            column = pyarrow.array([version] * len(table), pyarrow.int32())
            place = table.column_names.index("schema_version")
            pyarrow.parquet.write_table(table.set_column(place, "schema_version", column), path)

    shutil.rmtree(run / "records")
    shutil.rmtree(run / "recipes")
    stamp(1)
    assert main(["report", str(run)]) == 0
    options = ["--stage3.pairs", "[{filter: winner}, {filter: margin, least: -2}]", "--stage3.epochs", "1"]
    assert main(["finetune", str(recipe), "--out", str(run), *options, *ALLOW]) in (0, 2)
    assert "recipe hash" not in capsys.readouterr().err
    stamp(99)
    assert main(["report", str(run)]) == 1
    assert "written by a later rapo-lightning" in capsys.readouterr().err


def test_records_say_what_was_made(finished: Path) -> None:
    lines = (finished / "records/generations.0.jsonl").read_text().splitlines()
    for record in map(json.loads, lines):
        assert (finished / record["video"]).stat().st_size == record["bytes"]
        assert record["frames"] == 5
        assert record["seconds"] > 0


@pytest.mark.parametrize(("said", "column"), [([None], None), ([None, ""], ""), (["", "a ball", "a globe"], "a ball")])
def test_the_restated_request_is_the_first_that_is_said(said: list[str | None], column: str | None) -> None:
    empty = {"score": 0.5, "critique": "", "seconds": 0.1}
    records = {str(n): empty if text is None else {**empty, "restated": text} for n, text in enumerate(said)}
    assert judgement_columns(records)["restated"] == column
