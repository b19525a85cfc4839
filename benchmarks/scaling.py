"""A collection on paper: hours, cost and storage on any number of GPUs, from phases that `collect_speed.py` measured.

    python benchmarks/scaling.py --out /tmp/speed                                  # 12,000 prompts x 5 rounds on 1, 8 and 64 GPUs
    python benchmarks/scaling.py --out /tmp/speed --failures 0.01 --price 2.5      # per GPU-hour

Whatever was not measured or given is no part of it: without `collect.json` in `--out` nothing is printed but that.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """What a collection depends on.

    Attributes:
        prompts: Prompts.
        rounds: Rounds of each.
        seconds: Of a prompt's round on one GPU, without loading.
        load: Seconds that a process takes to load and compile, once.
        gpus: Processes, one a GPU; prompts are dealt out evenly, so that shares differ by one at most.
        failures: Processes lost per GPU-hour; each is started again, loads again, and makes the video in flight again.
        price: Of a GPU-hour; all GPUs are paid for until the last one is done.
        megabytes: Of a video on disk.
    """

    prompts: int
    rounds: int
    seconds: float
    load: float
    gpus: int = 1
    failures: float = 0.0
    price: float = 0.0
    megabytes: float = 0.0

    @property
    def hours(self) -> float:
        """Until the largest share is done: (load + prompts of it x rounds x seconds) / (1 - failures x what each costs)."""
        share = math.ceil(self.prompts / self.gpus)
        lost = self.failures * (self.load + self.seconds / 2) / 3600
        if lost >= 1:
            return math.inf
        return (self.load + share * self.rounds * self.seconds) / 3600 / (1 - lost)

    @property
    def cost(self) -> float:
        """Of all GPUs."""
        return self.hours * self.gpus * self.price

    @property
    def gigabytes(self) -> float:
        """Of all videos; rows and records are some kilobytes a round."""
        return self.prompts * self.rounds * self.megabytes / 1000


def measured(found: dict[str, Any]) -> tuple[float, float]:
    """Seconds of a prompt's round without loading, and those of loading a process.

    Args:
        found: What `collect_speed.py` keeps in `collect.json`.
    """
    load = found["seconds"].get("load", 0.0)
    return (found["wall"] - load) / found["rounds"], load / found["pieces"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=12000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--failures", type=float, default=0.0, help="per GPU-hour")
    parser.add_argument("--price", type=float, default=0.0, help="of a GPU-hour")
    parser.add_argument("--megabytes", type=float, default=1.0, help="of a video")
    chosen = parser.parse_args()
    path = chosen.out / "collect.json"
    if not path.is_file():
        sys.exit(
            f"Not measured: {path} is not there. Run `benchmarks/collect_speed.py --out {chosen.out}` on the GPU first."
        )
    seconds, load = measured(json.loads(path.read_text()))
    run = Run(chosen.prompts, chosen.rounds, seconds, load, 1, chosen.failures, chosen.price, chosen.megabytes)
    print(f"{seconds:.1f} s a prompt's round, {load:.0f} s to load; {run.gigabytes:,.0f} GB of videos\n")
    print("| GPUs | hours | cost |\n|---|---|---|")
    for count in chosen.gpus:
        one = replace(run, gpus=count)
        print(f"| {count} | {one.hours:,.1f} | {f'{one.cost:,.0f}' if chosen.price else 'no price given'} |")


if __name__ == "__main__":
    main()
