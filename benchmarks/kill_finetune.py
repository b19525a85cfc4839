"""Kills `finetune` at random moments and runs it again: is the adapter bit-equal to an unbroken run's, is anything left?

    python benchmarks/kill_finetune.py --kills 30

A tiny recipe on the CPU (`tests/helpers.py`). One server process imports the libraries once; every start is a fork of it,
so that a kill falls into the work and not into imports. Moments are uniform over the time of an unbroken run.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rapo_lightning.cli import main as rapo_lightning
from rapo_lightning.recipe import components
from tests.helpers import tiny_language_model, tiny_recipe
from tests.stage3.runs import write_rounds

_FORKS = multiprocessing.get_context("forkserver")
_KEPT = {"best.ckpt", "last.ckpt"}
_TOP = {"trajectories", "recipe.yaml", "recipes", "README.md", "checkpoints", "logs", "metrics.csv", "refiner"}


@dataclass(frozen=True)
class Outcome:
    """What one kill led to.

    Attributes:
        moment: Seconds from the start to the kill.
        stage: What the killed run had written.
        equal: Whether the adapter is bit-equal to the unbroken run's.
        leftovers: Files and folders that an unbroken run does not have; logs of every start belong to a run.
    """

    moment: float
    stage: str
    equal: bool
    leftovers: list[str]


def _work(recipe: str, folder: str) -> None:
    components.ALLOWED_PACKAGES.append("tests")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = rapo_lightning(["finetune", recipe, "--out", folder, "--trainer.enable_progress_bar", "false"])
    sys.exit(code)


def start(recipe: Path, folder: Path) -> BaseProcess:
    """Starts `finetune` in a process of its own."""
    process = _FORKS.Process(target=_work, args=(str(recipe), str(folder)))
    process.start()
    return process


def finish(recipe: Path, folder: Path) -> float:
    """Runs `finetune` to its end; returns the seconds.

    Raises:
        RuntimeError: If it does not end well.
    """
    begin = time.monotonic()
    process = start(recipe, folder)
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"finetune ended with {process.exitcode} in {folder}")
    return time.monotonic() - begin


def adapter(folder: Path) -> str:
    """Hash of a run's adapter."""
    return hashlib.sha256((folder / "refiner/adapter_model.safetensors").read_bytes()).hexdigest()


def leftovers(folder: Path) -> list[str]:
    """What does not belong into a finished run."""
    found = [path.name for path in folder.iterdir() if path.name not in _TOP]
    found += [path.name for path in (folder / "checkpoints").glob("*/*") if path.name not in _KEPT]
    return found + [str(path.relative_to(folder)) for path in folder.rglob("*.tmp")]


def stage(folder: Path) -> str:
    """How far a killed run had come."""
    if (folder / "refiner").exists():
        return "exported"
    kept = sorted(path.name for path in (folder / "checkpoints").glob("*/*"))
    return ", ".join(kept) or "nothing"


def kill_once(recipe: Path, folder: Path, moment: float, expected: str) -> Outcome:
    """Kills one run and runs it again.

    Args:
        recipe: The recipe.
        folder: A run with trajectories alone.
        moment: Seconds from the start to the kill.
        expected: Hash of the adapter of an unbroken run.
    """
    process = start(recipe, folder)
    process.join(moment)
    process.kill()
    process.join()
    reached = stage(folder)
    finish(recipe, folder)
    return Outcome(moment, reached, adapter(folder) == expected, leftovers(folder))


def measure(kills: int, work: Path, language_model: Path, seed: int = 0) -> list[Outcome]:
    """Kills that many runs.

    Args:
        kills: Their number.
        work: Folder for the runs.
        language_model: Folder of the tiny language model.
        seed: Seed of the moments.
    """
    _FORKS.set_forkserver_preload(["rapo_lightning.commands.finetune", "tests.helpers"])
    recipe = tiny_recipe(work, language_model)
    # The fastest of three: later than that many runs are done, and a kill there tries nothing.
    seconds = min(finish(recipe, write_rounds(work / f"whole-{number}", recipe)) for number in range(3))
    whole, rng = work / "whole-0", random.Random(seed)
    outcomes = []
    for number in range(kills):
        folder = write_rounds(work / f"killed-{number}", recipe)
        outcomes.append(kill_once(recipe, folder, rng.uniform(0, seconds), adapter(whole)))
        shutil.rmtree(folder)
    return outcomes


def main() -> None:
    """Prints a table of the kills and fails if one run is not equal or not clean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "llm").mkdir()
        outcomes = measure(options.kills, work, tiny_language_model(work / "llm"), options.seed)
    print("| killed after, s | written by then | adapter equal | left behind |\n|---|---|---|---|")
    for item in sorted(outcomes, key=lambda item: item.moment):
        equal, left = "yes" if item.equal else "NO", ", ".join(item.leftovers) or "nothing"
        print(f"| {item.moment:.2f} | {item.stage} | {equal} | {left} |")
    good = sum(item.equal and not item.leftovers for item in outcomes)
    print(f"{good} of {len(outcomes)} equal and clean")
    sys.exit(good < len(outcomes))


if __name__ == "__main__":
    main()
