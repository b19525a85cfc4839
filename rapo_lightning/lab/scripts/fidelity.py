"""Measures the fidelity of aligned prompts: `python -m rapo_lightning.lab.scripts.fidelity runs/lab/evaluation/aligned`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...data.prompts import read_prompts
from ...data.store import Row, read_parts
from ...evaluation.statistics import ratio_interval
from ...stage1.rows import IDENTITY
from ..reading import survival, translated
from .measure import HELDOUT


def measure(rows: Sequence[Row]) -> None:
    """Prints the share of the users' attributes that survive, and of those that the caption names in the captions' words.

    Intervals resample prompts.
    """
    for name, check in (
        ("named in the aligned prompt", survival),
        ("named in the captions' words, nothing else", translated),
    ):
        found = [check(row["source_prompt"], row["prompt"]) for row in rows]
        right, asked = np.array([sum(item.values()) for item in found]), np.array([len(item) for item in found])
        low, high = ratio_interval(right, asked)
        print(f"{name}: {right.sum() / asked.sum():.4f} [{low:.4f}, {high:.4f}] of {asked.sum()} attributes")
        keys = sorted({key.removesuffix("_2") for item in found for key in item})
        for key in keys:
            values = [value for item in found for other, value in item.items() if other.removesuffix("_2") == key]
            print(f"  {key:10} {np.mean(values):.3f} of {len(values)}")


def main() -> None:
    """Reads the command line; settings of stage 1, and groups of prompts, are measured one by one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the rows of stage 1")
    rows = read_parts(parser.parse_args().folder, IDENTITY)
    groups = {prompt.id: prompt.group for prompt in read_prompts(HELDOUT)}
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["recipe_hash"], groups.get(row["prompt_id"], "")), []).append(row)
    for (settings, group), part in found.items():
        chosen = Counter(row["choice"] for row in part).most_common()
        print(f"== settings {settings}, {group or 'other prompts'}: {len(part)} prompts, {chosen}")
        measure(part)


if __name__ == "__main__":
    main()
