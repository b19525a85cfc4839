"""Kills `finetune` at random moments and runs it again: is the adapter an unbroken run's, is anything left?

    python benchmarks/kill_finetune.py --kills 30 --objective sft+dpo --engine trl
    python benchmarks/kill_finetune.py --kills 20 --accelerator gpu

A tiny recipe in float32 (`tests/helpers.py`) that saves after every step. Moments are uniform over the time of an unbroken run, on a
GPU over that from its first checkpoint on, since what comes before, imports and compiling, takes most of it there.
On a CPU the adapter must be equal bit by bit; on a GPU, where sums need not have the same order twice, to 1e-6, and so must the losses.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.kills import Runs
from tests.helpers import tiny_language_model, tiny_recipe
from tests.stage3.runs import write_rounds


@dataclass(frozen=True)
class Outcome:
    """What one kill led to.

    Attributes:
        moment: Seconds from the start, or on a GPU from the first checkpoint, to the kill.
        stage: What the killed run had written.
        adapter: How far the adapter is from the unbroken run's: norm of the difference over the norm.
        losses: The largest relative difference of a logged loss.
        leftovers: Files and folders that an unbroken run does not have; logs of every start belong to a run.
    """

    moment: float
    stage: str
    adapter: float
    losses: float
    leftovers: list[str]

    def is_good(self, bound: float) -> bool:
        """Whether nothing is left, and nothing differs by more than `bound`."""
        return max(self.adapter, self.losses) <= bound and not self.leftovers


def adapter(folder: Path) -> torch.Tensor:
    """All weights of a run's adapter, in float64."""
    weights = load_file(folder / "refiner/adapter_model.safetensors")
    return torch.cat([weights[name].double().flatten() for name in sorted(weights)])


def losses(folder: Path) -> list[float]:
    """Every loss that a run has logged, of its steps and validations."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [float(row[name]) for row in rows for name in ("train_loss_step", "val_loss") if row.get(name)]


def differences(folder: Path, whole: Path) -> tuple[float, float]:
    """How far adapter and losses of a run are from those of another; infinite if one has other losses at all."""
    found, wanted = adapter(folder), adapter(whole)
    pairs = list(zip(losses(folder), losses(whole), strict=False))
    same = len(losses(folder)) == len(losses(whole))
    apart = max(abs(one - other) / abs(other) for one, other in pairs) if same else float("inf")
    return float((found - wanted).norm() / wanted.norm()), apart


def names(folder: Path) -> set[str]:
    """Paths of all files of a run but its logs, of which every start has its own."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith(("logs/", "trajectories/"))}


def has_checkpoint(folder: Path) -> bool:
    """Whether a training in a run folder has saved something, by either engine."""
    return any(folder.glob("checkpoints/*/*"))


def stage(folder: Path) -> str:
    """How far a killed run had come."""
    if (folder / "refiner").exists():
        return "exported"
    kept = sorted(path.name for path in (folder / "checkpoints").glob("*/*"))[:4]
    return ", ".join(kept) or "nothing"


def kill_once(runs: Runs, folder: Path, moment: float, whole: Path) -> Outcome:
    """Kills one run and runs it again.

    Args:
        runs: Of `finetune`.
        folder: A run with trajectories alone.
        moment: Seconds to the kill, as `Outcome` says.
        whole: An unbroken run.
    """
    runs.kill(folder, moment)
    reached = stage(folder)
    runs.finish(folder)
    left = sorted(names(folder) - names(whole))
    return Outcome(moment, reached, *differences(folder, whole), left)


def measure(kills: int, work: Path, language_model: Path, seed: int = 0, **changes: Any) -> list[Outcome]:
    """Kills that many runs.

    Args:
        kills: Their number.
        work: Folder for the runs.
        language_model: Folder of the tiny language model.
        seed: Seed of the moments.
        changes: Of the tiny recipe, such as `stage3__engine`.
    """
    recipe = tiny_recipe(work, language_model, stage3__checkpoint_steps=1, **changes)
    on_gpu = changes.get("trainer__accelerator") == "gpu"
    begun = has_checkpoint if on_gpu else lambda folder: True
    runs = Runs("finetune", recipe, ["rapo_lightning.stage3.run"], anew=on_gpu, begun=begun)
    # The fastest of three: later than that many runs are done, and a kill there tries nothing.
    seconds = min(runs.finish(write_rounds(work / f"whole-{number}", recipe)) for number in range(3))
    whole, rng = work / "whole-0", random.Random(seed)
    outcomes = []
    for number in range(kills):
        folder = write_rounds(work / f"killed-{number}", recipe)
        outcomes.append(kill_once(runs, folder, rng.uniform(0, seconds), whole))
        shutil.rmtree(folder)
    return outcomes


def main() -> None:
    """Prints a table of the kills and fails if one run is not equal or not clean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--objective", default="sft")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--packing", default="auto")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "llm").mkdir()
        changes = {"stage3__objective": options.objective, "stage3__engine": options.engine}
        changes |= {"stage3__optimizer__packing": options.packing, "stage3__epochs": options.epochs}
        changes |= {"trainer__accelerator": options.accelerator, "trainer__devices": 1}
        model = tiny_language_model(work / "llm", heads=2)  # of 16: packs take no smaller ones
        outcomes = measure(options.kills, work, model, options.seed, **changes)
    bound = 0.0 if options.accelerator == "cpu" else 1e-6
    print("| killed after, s | written by then | adapter differs by | losses by | left behind |\n|---|---|---|---|---|")
    for item in sorted(outcomes, key=lambda item: item.moment):
        left = ", ".join(item.leftovers) or "nothing"
        print(f"| {item.moment:.2f} | {item.stage} | {item.adapter:.1e} | {item.losses:.1e} | {left} |")
    good = sum(item.is_good(bound) for item in outcomes)
    print(f"{good} of {len(outcomes)} equal ({bound:g}) and clean")
    sys.exit(good < len(outcomes))


if __name__ == "__main__":
    main()
