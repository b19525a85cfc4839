"""Measures the fidelity of aligned prompts: `python -m rapo_lightning.lab.scripts.fidelity runs/lab/evaluation/aligned`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ...data.store import read_parts
from ...evaluation.statistics import ratio_interval
from ...stage1.rows import IDENTITY
from ..reading import survival, translated


def main() -> None:
    """Prints the share of the users' attributes that survive, and of those that the caption names in the captions' words.

    Intervals resample prompts.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the rows of stage 1")
    rows = read_parts(parser.parse_args().folder, IDENTITY)
    for name, check in (
        ("named in the aligned prompt", survival),
        ("named in the captions' words, nothing else", translated),
    ):
        found = [check(row["source_prompt"], row["prompt"]) for row in rows]
        right, asked = np.array([sum(item.values()) for item in found]), np.array([len(item) for item in found])
        low, high = ratio_interval(right, asked)
        print(
            f"{name}: {right.sum() / asked.sum():.4f} [{low:.4f}, {high:.4f}] of {asked.sum()} attributes, {len(rows)} prompts"
        )
        keys = sorted({key.removesuffix("_2") for item in found for key in item})
        for key in keys:
            values = [value for item in found for other, value in item.items() if other.removesuffix("_2") == key]
            print(f"  {key:10} {np.mean(values):.3f} of {len(values)}")


if __name__ == "__main__":
    main()
