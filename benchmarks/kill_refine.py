"""Kills `refine --input` at random moments and runs it again: is the CSV that of an unbroken run, byte for byte?

    python benchmarks/kill_refine.py --kills 10 --prompts 640
    python benchmarks/kill_refine.py --kills 0 --prompts 10000 --memory

A random tiny refiner on the CPU (`tests/helpers.py`); every tenth prompt is one of before. Moments are uniform over the time of an
unbroken run. After every second kill some bytes are torn off as well, as where the power fails: half a row is left then. `--memory`
prints the most memory that a process has needed for so many prompts, and for a tenth of them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.kills import Runs
from rapo_lightning.cli import main as rapo_lightning
from tests.helpers import tiny_language_model, tiny_recipe
from tests.stage3.runs import write_rounds

_CSV = "refined.csv"
_PEAK = """
import resource, sys, torch
from rapo_lightning.cli import main
torch.set_num_threads(1)
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sys.exit(code)
"""
"""Runs a command and prints the most memory in MiB that its process has had (Linux counts in KiB)."""


@dataclass(frozen=True)
class Outcome:
    """What one kill led to.

    Attributes:
        moment: Seconds from the start to the kill.
        lines: Whole lines of the CSV after the kill, its header among them.
        torn: Whether half a line was at its end.
        equal: Whether the CSV is, after one more run, byte for byte that of an unbroken run.
        leftovers: Files beside it that an unbroken run does not leave.
    """

    moment: float
    lines: int
    torn: bool
    equal: bool
    leftovers: list[str]


def train(work: Path, language_model: Path) -> tuple[Path, Path]:
    """A tiny recipe, and the folder of a refiner that was trained with it.

    Raises:
        RuntimeError: If it cannot be trained.
    """
    recipe = tiny_recipe(work, language_model)
    run = write_rounds(work / "trained", recipe)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = rapo_lightning(["finetune", str(recipe), "--out", str(run), "--allow_package", "tests"])
    if code:
        raise RuntimeError(f"finetune ended with {code}")
    return recipe, run / "refiner"


def write_prompts(path: Path, count: int) -> Path:
    """Prompts of several lengths, every tenth one the first again."""
    lines = [f"ball {number * bool(number % 10)}" + " rolls" * (number % 3) for number in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def tear(path: Path, rng: random.Random) -> None:
    """Takes off the last bytes of a file."""
    size = path.stat().st_size if path.is_file() else 0
    if size:
        os.truncate(path, size - rng.randint(1, min(60, size)))


def kill_once(runs: Runs, folder: Path, moment: float, expected: bytes, torn: random.Random | None) -> Outcome:
    """Kills one run and runs it again.

    Args:
        runs: Of `refine`.
        folder: A run folder with a refiner alone.
        moment: Seconds from the start to the kill.
        expected: The CSV of an unbroken run.
        torn: Decides how much is torn off; None leaves the CSV as the kill did.
    """
    path = folder / _CSV
    runs.kill(folder, moment)
    if torn is not None:
        tear(path, torn)
    found = path.read_bytes() if path.is_file() else b""
    runs.finish(folder)
    left = sorted(item.name for item in folder.iterdir() if item.name not in ("refiner", _CSV))
    return Outcome(moment, found.count(b"\n"), not found.endswith(b"\n"), path.read_bytes() == expected, left)


def peak_memory(prompts: int, work: Path, language_model: Path) -> int:
    """The most memory in MiB of a process that refines so many prompts.

    Args:
        prompts: Their number.
        work: Folder for the run.
        language_model: Folder of the tiny language model.
    """
    recipe, refiner = train(work, language_model)
    source = write_prompts(work / "prompts.txt", prompts)
    asked = ["refine", str(recipe), "--out", str(refiner.parent), "--input", str(source), "--output", str(work / _CSV)]
    command = [sys.executable, "-c", _PEAK, *asked, "--allow_package", "tests"]
    root = Path(__file__).parent.parent
    told = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return int(told.split()[-1])


def measure(kills: int, prompts: int, work: Path, language_model: Path, seed: int = 0) -> list[Outcome]:
    """Kills that many runs.

    Args:
        kills: Their number.
        prompts: Number of prompts of each.
        work: Folder for the runs.
        language_model: Folder of the tiny language model.
        seed: Seed of the moments.
    """
    recipe, refiner = train(work, language_model)
    source = write_prompts(work / "prompts.txt", prompts)

    def prepared(name: str) -> Path:
        shutil.copytree(refiner, work / name / "refiner")
        return work / name

    runs = Runs(
        "refine", recipe, ["rapo_lightning.running.refining"],
        lambda folder: ["--input", str(source), "--output", str(folder / _CSV)],
    )  # fmt: skip
    # The faster of two: the first waits for imports, and a kill after a run's end tries nothing.
    seconds = min(runs.finish(prepared(f"whole-{number}")) for number in range(2))
    whole, rng = (work / "whole-0" / _CSV).read_bytes(), random.Random(seed)
    outcomes = []
    for number in range(kills):
        folder = prepared(f"killed-{number}")
        outcomes.append(kill_once(runs, folder, rng.uniform(0, seconds), whole, rng if number % 2 else None))
        shutil.rmtree(folder)
    return outcomes


def main() -> None:
    """Prints a table of the kills and fails if one CSV is not equal, or something is left beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=640)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "llm").mkdir()
        model = tiny_language_model(work / "llm")
        for count in (options.prompts // 10, options.prompts) if options.memory else ():
            (work / str(count)).mkdir()
            print(f"{peak_memory(count, work / str(count), model)} MiB for {count} prompts")
        if not options.kills:
            return
        outcomes = measure(options.kills, options.prompts, work, model, options.seed)
    print("| killed after, s | lines by then | half a line | CSV equal | left behind |\n|---|---|---|---|---|")
    for item in sorted(outcomes, key=lambda item: item.moment):
        torn, equal = "yes" if item.torn and item.lines else "no", "yes" if item.equal else "NO"
        print(f"| {item.moment:.2f} | {item.lines} | {torn} | {equal} | {', '.join(item.leftovers) or 'nothing'} |")
    good = sum(item.equal and not item.leftovers for item in outcomes)
    print(f"{good} of {len(outcomes)} equal and clean")
    sys.exit(good < len(outcomes))


if __name__ == "__main__":
    main()
