"""Writes the prompt and example files of the lab's recipes: `python -m rapo_lightning.lab.scripts.files`.

The files in `recipes/lab` are what this prints; a test compares them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from ..remarks import remark
from ..requests import asked, wordings
from ..user_prompts import LabPrompt, lab_prompts
from ..world import BACKGROUNDS, COLOURS, DIRECTIONS, DOUBLE_MOTIONS, SHAPES, SINGLE_MOTIONS, SIZES

SEEDS = {"train": 1, "heldout": 2, "examples": 3, "trained wording": 4, "validation": 5, "captions": 9}
COUNTS = {"train": 640, "heldout": 360, "examples": 128, "trained wording": 360, "validation": 240, "captions": 10_000}
_HEADER = ["prompt", "phys_law", "reference"]


def possible_values(key: str, wanted: dict[str, str]) -> list[str]:
    """All that may be seen of an attribute."""
    return {
        "shape": list(SHAPES),
        "colour": list(COLOURS),
        "size": list(SIZES),
        "background": list(BACKGROUNDS),
        "motion": list(DOUBLE_MOTIONS if "shape_2" in wanted else SINGLE_MOTIONS),
        "direction": list(DIRECTIONS),
    }[key.removesuffix("_2")]


def example_critique(prompt: LabPrompt, rng: np.random.Generator) -> str:
    """What the oracle says of a video that got nearly nothing right: each attribute is wrong with probability 0.85."""
    wanted, words = asked(prompt.prompt), wordings(prompt.prompt)
    remarks = []
    for key, value in wanted.items():
        if rng.random() < 0.85:
            wrong = [other for other in possible_values(key, wanted) if other != value]
            remarks.append(remark(key, wrong[int(rng.integers(len(wrong)))], words[key]))
    return " ".join(remarks)


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _draw(name: str, split: str, taken: set[str], wording: str = "") -> list[LabPrompt]:
    """The prompts of a file's part, without those that are taken."""
    drawn = lab_prompts(COUNTS[name] + 40, split, SEEDS[name], wording)
    return [prompt for prompt in drawn if prompt.prompt not in taken][: COUNTS[name]]


def _row(prompt: LabPrompt) -> list[str]:
    return [prompt.prompt, prompt.phys_law, prompt.reference]


def write_files(folder: Path) -> None:
    """Writes the files of prompts (`train`, `validation`, `heldout`), `examples.csv` and `captions_train.txt`.

    No prompt of the examples occurs among the training prompts, and no scene of the held-out prompts in either. The held-out
    prompts have two groups: those whose phrasings occur in neither either, and then as many in phrasings of the training
    split, so that new scenes are told apart from new words. Those for validation are training scenes in phrasings of
    their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    examples = lab_prompts(COUNTS["examples"], "train", SEEDS["examples"])
    taken = {example.prompt for example in examples}
    train = _draw("train", "train", taken)
    _write(folder / "prompts_train.csv", _HEADER, [_row(prompt) for prompt in train])
    new = _draw("heldout", "heldout", taken)
    trained = _draw("trained wording", "heldout", taken | {prompt.prompt for prompt in (*train, *new)}, "train")
    rows = [[*_row(prompt), "new wording"] for prompt in new] + [
        [*_row(prompt), "trained wording"] for prompt in trained
    ]
    _write(folder / "prompts_heldout.csv", [*_HEADER, "group"], rows)
    validation = _draw("validation", "train", taken, "validation")
    _write(folder / "prompts_validation.csv", _HEADER, [_row(prompt) for prompt in validation])
    rng = np.random.default_rng(SEEDS["examples"])
    rows = [[p.prompt, example_critique(p, rng), p.reference] for p in examples]
    _write(folder / "examples.csv", ["prompt", "critique", "caption"], rows)
    captions = [prompt.reference for prompt in lab_prompts(COUNTS["captions"], "train", SEEDS["captions"])]
    (folder / "captions_train.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("recipes/lab"), help="folder to write to")
    write_files(parser.parse_args().out)
