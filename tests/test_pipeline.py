"""The stages together, on a tiny recipe: collect, kill and resume, two processes, finetune, evaluate, refine, report."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import Row, read_rows
from tests.helpers import ROOT, run_cli, tiny_recipe
from tests.stage3.runs import write_rounds

ALLOW = ("--allow_package", "tests")
TIMES = {"seconds_generate", "seconds_judge", "seconds_rewrite"}


def comparable(rows: list[Row]) -> list[Row]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("recipe"), language_model)


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder after an unbroken `collect`."""
    folder = tmp_path_factory.mktemp("run")
    assert main(["collect", str(recipe), "--out", str(folder), *ALLOW]) == 0
    return folder


def test_collect_logs_every_round(run: Path) -> None:
    rows = read_rows(run / "trajectories")
    assert len(rows) == 6 * 3
    for row in rows:
        assert (run / row["video"]).is_file()
        assert row["score_temporal_coherence"] is not None
        assert bool(row["next_prompt"]) == (row["round"] < 2)
    by_round = {(row["prompt_id"], row["round"]): row for row in rows}
    for (identity, number), row in by_round.items():
        if number:
            assert row["prompt"] == by_round[identity, number - 1]["next_prompt"]
        else:
            assert row["prompt"] == row["source_prompt"]
    assert (run / "recipe.yaml").is_file()


def test_collecting_again_does_nothing(run: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((run / "trajectories").iterdir())
    assert main(["collect", str(recipe), "--out", str(run), *ALLOW]) == 0
    assert sorted((run / "trajectories").iterdir()) == before
    assert "6 already complete" in capsys.readouterr().out


def test_batch_size_does_not_change_rows(run: Path, recipe: Path, tmp_path: Path) -> None:
    options = [
        "--stage2.batch_size",
        "5",
        "--language_model.init_args.batch_size",
        "7",
        "--stage2.save_videos",
        "false",
    ]
    assert main(["collect", str(recipe), "--out", str(tmp_path), *options, *ALLOW]) == 0
    found = comparable(read_rows(tmp_path / "trajectories"))
    expected = comparable(read_rows(run / "trajectories"))
    assert [{**row, "video": ""} for row in expected] == found


def test_kill_in_the_middle_and_resume_gives_the_same_rows(run: Path, recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rapo_lightning", "collect", str(recipe), "--out", str(tmp_path), *ALLOW]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "trajectories").glob("*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = read_rows(tmp_path / "trajectories")
    assert 0 < len(left) < 18
    result = run_cli("collect", str(recipe), "--out", str(tmp_path), *ALLOW)
    assert result.returncode == 0, result.stderr
    # No library's bars or remarks reach the terminal.
    assert result.stderr == ""
    assert comparable(read_rows(tmp_path / "trajectories")) == comparable(read_rows(run / "trajectories"))


def test_two_processes_give_the_same_rows(run: Path, recipe: Path, tmp_path: Path) -> None:
    result = run_cli(
        "collect", str(recipe), "--out", str(tmp_path), "--trainer.devices", "2", "--trainer.strategy", "ddp", *ALLOW
    )
    assert result.returncode == 0, result.stderr
    assert comparable(read_rows(tmp_path / "trajectories")) == comparable(read_rows(run / "trajectories"))
    assert result.stdout.count("6 prompts, 0 already complete") == 1


def test_two_processes_resume_with_one_prompt_left(run: Path, recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "trajectories", tmp_path / "trajectories")
    rows = read_rows(run / "trajectories")
    last = rows[-1]["prompt_id"]
    for path in (tmp_path / "trajectories").iterdir():
        if any(row["prompt_id"] == last for row in read_rows_of(path)):
            path.unlink()
    result = run_cli(
        "collect", str(recipe), "--out", str(tmp_path), "--trainer.devices", "2", "--trainer.strategy", "ddp", *ALLOW
    )
    assert result.returncode == 0, result.stderr
    assert comparable(read_rows(tmp_path / "trajectories")) == comparable(rows)


def test_a_process_without_a_prompt_waits_for_the_other(run: Path, recipe: Path, tmp_path: Path) -> None:
    devices = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    result = run_cli("collect", str(recipe), "--out", str(tmp_path), "--limit", "1", *devices, *ALLOW)
    assert result.returncode == 0, result.stderr
    found = comparable(read_rows(tmp_path / "trajectories"))
    assert len(found) == 3
    assert [row for row in comparable(read_rows(run / "trajectories")) if row in found] == found


def read_rows_of(path: Path) -> list[Row]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def trained(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_rounds(tmp_path_factory.mktemp("logged"), recipe)
    assert main(["finetune", str(recipe), "--out", str(folder), *ALLOW]) == 0
    return folder


def test_evaluate_compares_all_arms_and_resumes(
    trained: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(recipe), "--out", str(trained), *ALLOW]) == 0
    results = json.loads((trained / "results.json").read_text())
    assert set(results["arms"]) == {"raw", "sspo@3", "refiner", "refiner+sspo@3", "reference"}
    assert results["arms"]["sspo@3"]["videos_per_prompt"] == 3
    assert all(arm["n"] == 3 for arm in results["arms"].values())
    assert "gap closure" in capsys.readouterr().out
    parts = sorted((trained / "evaluation").rglob("*.parquet"))
    assert main(["evaluate", str(recipe), "--out", str(trained), *ALLOW]) == 0
    faster = ["--evaluation.metric.init_args.workers", "1", "--stage2.batch_size", "2"]
    assert main(["evaluate", str(recipe), "--out", str(trained), *ALLOW, *faster]) == 0
    assert sorted((trained / "evaluation").rglob("*.parquet")) == parts


def test_report_shows_the_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(trained)]) == 0
    assert (trained / "report/index.html").read_text().count("<article") == 20


@pytest.mark.parametrize("damaged_round", [0, 1, 2])
def test_damaged_part_stops_with_one_sentence(
    damaged_round: int, run: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "trajectories", tmp_path / "trajectories")
    parts = (tmp_path / "trajectories").glob("*.parquet")
    part = next(path for path in parts if read_rows_of(path)[0]["round"] == damaged_round)
    part.write_bytes(part.read_bytes()[:100])
    assert main(["collect", str(recipe), "--out", str(tmp_path), *ALLOW]) == 1
    error = capsys.readouterr().err
    assert part.name in error
    assert "Move it away" in error
    part.unlink()
    assert main(["collect", str(recipe), "--out", str(tmp_path), *ALLOW]) == 0
    assert comparable(read_rows(tmp_path / "trajectories")) == comparable(read_rows(run / "trajectories"))
