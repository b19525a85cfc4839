"""What GRPO gained: the rewards of greedy answers to held-out requests, before the training and in its best epoch, paired.

    python benchmarks/grpo_gain.py runs/lab

The best epoch was chosen by the same rewards, so a little of its gain is luck; `evaluate` measures with another instrument.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rapo_lightning.evaluation.statistics import bootstrap_interval

_TEXTS = {"step", "request", "prompt", "reason"}


def read_answers(run: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Rewards of a run's answers by their name, step, and request; of all starts of its training.

    Args:
        run: The run folder.
    """
    found: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for path in sorted((run / "logs").glob("*/answers.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for name in set(row) - _TEXTS:
                    found[name][int(row["step"])][row["request"]] = float(row[name])
    return found


def gains(rewards: dict[int, dict[str, float]]) -> list[tuple[int, float, float, float, float]]:
    """Step, mean, and gain over the first step with its 95 % interval, for each validation.

    Args:
        rewards: Of one reward, by step and request.
    """
    first = rewards[min(rewards)]
    rows = []
    for step, values in sorted(rewards.items()):
        differences = [values[request] - before for request, before in first.items() if request in values]
        low, high = bootstrap_interval(differences)
        mean = sum(values.values()) / len(values)
        rows.append((step, mean, sum(differences) / len(differences), low, high))
    return rows


def main() -> None:
    """Prints a table for the sum of the rewards, and one for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    found = read_answers(parser.parse_args().run)
    for name in sorted(found, key=lambda name: (name != "reward", name)):
        print(f"\n{name}\n| step | mean | gain | 95 % interval |\n|---|---|---|---|")
        for step, mean, gain, low, high in gains(found[name]):
            print(f"| {step} | {mean:.3f} | {gain:+.3f} | [{low:+.3f}, {high:+.3f}] |")


if __name__ == "__main__":
    main()
