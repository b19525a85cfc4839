"""Answers of a rewriter as candidates for the next prompt: which can be used, and whether they keep the limit of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..data.store import Row
from ..prompting.text import one_line, shorten

Shortened = Literal["", "again", "cut"]
"""How a prompt came to keep `stage2.max_words`, as it stands in rows: it did, another answer does, or it was cut."""


class Proposal(NamedTuple):
    """The next prompt of a trajectory.

    Attributes:
        text: The prompt.
        shortened: How it came to keep the limit of words.
    """

    text: str
    shortened: Shortened = ""


def usable(answers: Sequence[str]) -> list[str]:
    """The answers that say something, on one line each."""
    return [text for text in map(one_line, answers) if text]


def tried(rounds: Sequence[Row]) -> set[str]:
    """The prompts that a trajectory has a video of already: repeating one wastes a video."""
    return {row["prompt"] for row in rounds}


def new_first(texts: Sequence[str], known: set[str], max_words: int) -> list[str]:
    """The texts that were not tried before as they are or cut; all where there is no other."""
    return [text for text in texts if shorten(text, max_words) not in known] or list(texts)


def fitting(texts: Sequence[str], max_words: int) -> list[str]:
    """The texts that keep the limit of words."""
    return [text for text in texts if len(text.split()) <= max_words]
