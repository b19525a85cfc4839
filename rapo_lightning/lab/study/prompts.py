"""The study's prompts: those that are collected on, drawn from training scenes, and the held-out ones in three groups."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...data.csv_log import csv_text
from ...data.prompts import Prompt, read_prompts
from ...data.resources import find
from ...prompting.text import words
from ...running.folder import write_text
from ...stage3.pairs.filter import plain
from ..captions import caption
from ..degrade import UNKNOWN, degrade_caption
from ..requests import asked
from ..scene import sample_scene
from ..user_prompts import lab_prompts
from ..world import PHYS_LAWS
from .scale import FEW

HELDOUT = "recipes/lab/prompts_heldout.csv"
WRITTEN = "recipes/lab/prompts_handwritten.csv"
EXAMPLES = "recipes/lab/examples.csv"
SEEDS = {"thesaurus": 31, "lexicon": 32}
"""Seeds of the draws, other than those of the shipped files."""
COLUMNS = ("prompt", "phys_law", "reference", "asked")
Row = tuple[str, str, str, str]


def _shown(attributes: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in attributes.items())


def _thesaurus() -> Iterator[Row]:
    rng = np.random.default_rng(SEEDS["thesaurus"])
    while True:
        scene = sample_scene(rng, "train")
        text = caption(scene, rng)
        made = degrade_caption(text, scene, rng)
        # What no caption names has no right answer here.
        if made.named and UNKNOWN not in made.named.values():
            yield made.request, PHYS_LAWS.get(made.named.get("motion", ""), ""), text, _shown(made.named)


def _lexicon(count: int) -> Iterator[Row]:
    for item in lab_prompts(count, "train", SEEDS["lexicon"]):
        yield item.prompt, item.phys_law, item.reference, _shown(asked(item.prompt))


def draw_prompts(wording: str, count: int, taken: Sequence[str]) -> list[Row]:
    """Draws prompts of training scenes; fewer of a wording are the first of more.

    Args:
        wording: `thesaurus` (the thesaurus' full wording) or `lexicon` (the words of the lab's training users).
        count: How many.
        taken: Prompts that must not be among them, whatever their case and spaces.

    Returns:
        Rows of `COLUMNS`.
    """
    known, found = {plain(text) for text in taken}, []
    rows = _thesaurus() if wording == "thesaurus" else _lexicon(count + len(known))
    for row in rows:
        if plain(row[0]) not in known:
            known.add(plain(row[0]))
            found.append(row)
        if len(found) == count:
            break
    return found


def held_out(group: int, written: int) -> list[Prompt]:
    """The held-out prompts: the first of each group, and the first hand-written ones."""
    prompts, counts, found = read_prompts(HELDOUT), dict[str, int](), []
    for prompt in prompts:
        counts[prompt.group] = counts.get(prompt.group, 0) + 1
        if counts[prompt.group] <= group:
            found.append(prompt)
    return found + read_prompts(WRITTEN, written)


def write_held_out(path: Path, group: int, written: int) -> None:
    """Writes `held_out` as a CSV."""
    rows = [[item.text, item.phys_law, item.reference, item.group] for item in held_out(group, written)]
    write_text(path, csv_text([["prompt", "phys_law", "reference", "group"], *rows]))


def write_prompts(path: Path, wording: str, count: int) -> None:
    """Writes `draw_prompts` as a CSV; no held-out prompt is among them."""
    taken = [prompt.text for prompt in (*read_prompts(HELDOUT), *read_prompts(WRITTEN))]
    write_text(path, csv_text([COLUMNS, *draw_prompts(wording, count, taken)]))


def most_words(rows: Sequence[dict[str, str]], count: int) -> list[dict[str, str]]:
    """Of examples those whose captions show the most of a style: one by one the one with the most words that none before has.

    A user who shows a model's range with a few captions chooses such ones. A refiner of captions that are alike has no other
    place or motion to try.

    Args:
        rows: Examples with the column `caption`; of equal ones the first is taken.
        count: How many.
    """
    left, seen, found = list(rows), set[str](), list[dict[str, str]]()
    while left and len(found) < count:
        row = max(left, key=lambda item: len(set(words(item["caption"])) - seen))
        left.remove(row)
        found.append(row)
        seen |= set(words(row["caption"]))
    return found


def write_examples(path: Path, pairs: Path | None = None) -> None:
    """Writes a few of the lab's examples, and also as pairs to train on if a path for these is given."""
    source = find(EXAMPLES)
    assert source is not None
    with source.open(encoding="utf-8", newline="") as file:
        rows = most_words(list(csv.DictReader(file)), FEW)
    write_text(path, csv_text([list(rows[0]), *(list(row.values()) for row in rows)]))
    if pairs:
        write_text(pairs, csv_text([["prompt", "completion"], *([row["prompt"], row["caption"]] for row in rows)]))


def write_references(prompts: Path, path: Path, count: int) -> None:
    """Writes the ceiling's pairs: each of the first prompts with its reference."""
    rows = [[prompt.text, prompt.reference] for prompt in read_prompts(str(prompts), count)]
    write_text(path, csv_text([["prompt", "completion"], *rows]))
