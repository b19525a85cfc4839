"""Kills `collect` at random moments and runs it again: are rows, records and videos those of an unbroken run?

    python benchmarks/kill_collect.py --kills 50

A tiny recipe on the CPU (`tests/helpers.py`) that saves its videos. Moments are uniform over the time of an unbroken run.
Rows are compared without their times, videos byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.kills import Runs
from rapo_lightning.data.records import PHASES
from rapo_lightning.data.trajectory import read_rows
from tests.helpers import tiny_language_model, tiny_recipe


@dataclass(frozen=True)
class Outcome:
    """What one kill led to.

    Attributes:
        moment: Seconds from the start to the kill.
        stage: What the killed run had recorded.
        differs: What is not as in an unbroken run; empty if all is.
    """

    moment: float
    stage: str
    differs: list[str]


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    """A row or record without what differs from run to run."""
    return {name: value for name, value in row.items() if not name.startswith("seconds")}


def contents(folder: Path) -> dict[str, Any]:
    """What a finished run holds, by part: rows, records of each phase, videos, and the names of all files."""
    rows = [json.dumps(without_times(row), sort_keys=True) for row in read_rows(folder / "trajectories")]
    found: dict[str, Any] = {"rows": rows}
    for phase in PHASES:
        lines = (folder / f"records/{phase}.0.jsonl").read_text(encoding="utf-8").splitlines()
        kept = {record["key"]: without_times(record) for record in map(json.loads, lines)}
        found[phase] = kept
    videos = sorted(folder.glob("videos/*/*"))
    found["videos"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in videos}
    # Parts have random names; how many there are depends on where the run stopped.
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix != ".parquet"}
    found["files"] = sorted(names)
    return found


def stage(folder: Path) -> str:
    """How far a killed run had come."""
    counts = []
    for phase in PHASES:
        path = folder / f"records/{phase}.0.jsonl"
        counts.append(f"{len(path.read_bytes().splitlines()) if path.is_file() else 0} {phase}")
    return ", ".join(counts)


def measure(kills: int, work: Path, language_model: Path, seed: int = 0) -> list[Outcome]:
    """Kills that many runs.

    Args:
        kills: Their number.
        work: Folder for the runs.
        language_model: Folder of the tiny language model.
        seed: Seed of the moments.
    """
    runs = Runs("collect", tiny_recipe(work, language_model), ["rapo_lightning.stage2.run", "rapo_lightning.models"])
    # The fastest of three: later than that many runs are done, and a kill there tries nothing.
    seconds = min(runs.finish(work / f"whole-{number}") for number in range(3))
    whole, rng, outcomes = contents(work / "whole-0"), random.Random(seed), []
    for number in range(kills):
        folder, moment = work / f"killed-{number}", rng.uniform(0, seconds)
        runs.kill(folder, moment)
        reached = stage(folder)
        runs.finish(folder)
        found = contents(folder)
        outcomes.append(Outcome(moment, reached, [part for part in whole if found[part] != whole[part]]))
        shutil.rmtree(folder)
    return outcomes


def main() -> None:
    """Prints a table of the kills and fails if one run is not that of an unbroken one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "llm").mkdir()
        outcomes = measure(options.kills, work, tiny_language_model(work / "llm"), options.seed)
    print("| killed after, s | recorded by then | differs from an unbroken run |\n|---|---|---|")
    for item in sorted(outcomes, key=lambda item: item.moment):
        print(f"| {item.moment:.2f} | {item.stage} | {', '.join(item.differs) or 'nothing'} |")
    good = sum(not item.differs for item in outcomes)
    print(f"{good} of {len(outcomes)} equal, nothing left behind")
    sys.exit(good < len(outcomes))


if __name__ == "__main__":
    main()
