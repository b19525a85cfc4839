"""Several processes against one at equal total cores: prompts a minute through each door of `collect`, and equal rows.

    python benchmarks/collection_doors.py --prompts 24 --turns 3

A tiny recipe on the CPU (`tests/helpers.py`) with the lab's video model at 17 frames and a few steps: one process with two threads, two processes of Lightning
(gloo) with one each, two Ray workers with one each, in turns. Rows are compared with those of one process with one thread, since
sums of two threads round otherwise. Counted is the time between the first part of rows on disk and
the last, so without starting up and loading; of several processes the first part of each is left out of the count, which is
to their disadvantage. The time of the whole command is given beside it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.kill_collect import without_times
from rapo_lightning.data.trajectory import read_rows
from tests.helpers import tiny_language_model, tiny_recipe

ROOT = Path(__file__).parent.parent
DOORS = {
    "one process, 2 threads": (1, "2", []),
    "2 gloo processes, 1 thread each": (2, "1", ["--trainer.devices", "2", "--trainer.strategy", "ddp"]),
    "2 Ray workers, 1 thread each": (2, "", ["--engine", "ray", "--workers", "2"]),
}
"""Processes, threads of each (Ray says itself), options. The first is what the others are compared with in speed."""
REFERENCE = (1, "1", list[str]())
"""What rows are compared with."""


@dataclass(frozen=True)
class Run:
    """A run through one door.

    Attributes:
        rate: Prompts a minute while working.
        seconds: Of the whole command.
        rows: Its rows, without times.
    """

    rate: float
    seconds: float
    rows: list[dict[str, object]]


def options(prompts: int, steps: int, batch: int) -> list[str]:
    """What the recipe is changed to."""
    call = "video_model.init_args.call"
    changed = {
        "prompts": ROOT / "recipes/lab/prompts_train.csv", "limit": prompts, "stage2.batch_size": batch, "stage2.rounds": 2,
        "stage2.save_videos": "false", f"{call}.num_frames": 17, f"{call}.num_inference_steps": steps,
        "video_model.init_args.batch_size": batch,
    }  # fmt: skip
    return [item for name, value in changed.items() for item in (f"--{name}", str(value))]


def run(door: tuple[int, str, list[str]], recipe: Path, folder: Path, given: list[str]) -> Run:
    """Collects through a door of `DOORS`.

    Raises:
        RuntimeError: If the command fails.
    """
    processes, threads, own = door
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    # On cores that others use as well, threads that wait actively for each other would slow the one process down.
    environment |= {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"} | (
        {"OMP_NUM_THREADS": threads} if threads else {}
    )
    begin = time.monotonic()
    command = [sys.executable, "-m", "rapo_lightning", "collect", str(recipe), "--out", str(folder)]
    command += ["--allow_package", "tests", *given, *own]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - begin
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    parts = sorted((folder / "trajectories").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    times = [path.stat().st_mtime_ns / 1e9 for path in parts]
    rows = read_rows(folder / "trajectories")
    counted = sum(pyarrow.parquet.read_metadata(path).num_rows for path in parts[processes:])
    rounds = max(row["round"] for row in rows) + 1
    rate = counted / rounds / (times[-1] - times[0]) * 60
    return Run(rate, seconds, [without_times(row) for row in rows])


def main() -> None:
    """Prints a table and fails if rows differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args()
    given = options(chosen.prompts, chosen.steps, chosen.batch)
    runs: dict[str, list[Run]] = {door: [] for door in DOORS}
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "llm").mkdir()
        recipe = tiny_recipe(Path(name), tiny_language_model(Path(name) / "llm"))
        reference = run(REFERENCE, recipe, Path(name) / "reference", given).rows
        for turn in range(chosen.turns):
            for number, door in enumerate(DOORS):
                runs[door].append(run(DOORS[door], recipe, Path(name) / f"{turn}-{number}", given))
                print(f"turn {turn}, {door}: {runs[door][-1].rate:.2f} prompts a minute", flush=True)
    first = runs[next(iter(DOORS))]
    print("| door | prompts a minute, by turn | over one process, by turn | median | whole command, s | rows |")
    print("|---|---|---|---|---|---|")
    for door, done in runs.items():
        ratios = [item.rate / one.rate for item, one in zip(done, first, strict=True)]
        shown = (", ".join(f"{value:.2f}" for value in values) for values in ([item.rate for item in done], ratios))
        same = "equal" if all(item.rows == reference for item in done) else "DIFFER"
        threads = DOORS[door][1]
        times = ", ".join(f"{item.seconds:.0f}" for item in done)
        print(
            f"| {door} | {' | '.join(shown)} | {statistics.median(ratios):.2f} | {times} | {same if threads != '2' else 'of two threads'} |"
        )
    compared = [item for door, done in runs.items() if DOORS[door][1] != "2" for item in done]
    sys.exit(any(item.rows != reference for item in compared))


if __name__ == "__main__":
    main()
