"""Writes the prompt and example files of the lab's recipes: `python -m rapo_lightning.lab.scripts.files`.

The files in `recipes/lab` are what this prints; a test compares them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from ..lexicon import asked
from ..oracle import remark
from ..user_prompts import LabPrompt, lab_prompts

SEEDS = {"train": 1, "heldout": 2, "examples": 3, "captions": 9}
COUNTS = {"train": 640, "heldout": 360, "examples": 128, "captions": 10_000}


def example_critique(prompt: LabPrompt, rng: np.random.Generator) -> str:
    """What the oracle would miss in a video that got nearly nothing right: each attribute with probability 0.85."""
    return " ".join(remark(key, value) for key, value in asked(prompt.prompt).items() if rng.random() < 0.85)


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_files(folder: Path) -> None:
    """Writes `prompts_train.csv`, `prompts_heldout.csv`, `examples.csv` and `captions_train.txt`.

    No prompt of the examples occurs among the training prompts, and no scene or phrasing of the held-out prompts occurs
    in either.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = ["prompt", "phys_law", "reference"]
    examples = lab_prompts(COUNTS["examples"], "train", SEEDS["examples"])
    taken = {example.prompt for example in examples}
    for split in ("train", "heldout"):
        prompts = [p for p in lab_prompts(COUNTS[split] + 40, split, SEEDS[split]) if p.prompt not in taken]
        rows = [[p.prompt, p.phys_law, p.reference] for p in prompts[: COUNTS[split]]]
        _write(folder / f"prompts_{split}.csv", header, rows)
    rng = np.random.default_rng(SEEDS["examples"])
    rows = [[p.prompt, example_critique(p, rng), p.reference] for p in examples]
    _write(folder / "examples.csv", ["prompt", "critique", "caption"], rows)
    captions = [prompt.reference for prompt in lab_prompts(COUNTS["captions"], "train", SEEDS["captions"])]
    (folder / "captions_train.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("recipes/lab"), help="folder to write to")
    write_files(parser.parse_args().out)
