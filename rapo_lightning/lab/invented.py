"""Requests with words that mean nothing, so that nothing but attempts can tell what is asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .requests import wordings

_ONSETS = [
    "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "cl", "dr", "fl", "gr", "pl", "st", "tr",
]  # fmt: skip
_VOWELS, _ENDS = ["a", "e", "i", "o", "u", "ai", "ou"], ["n", "l", "r", "m", "sk", "t"]


def invented(rng: np.random.Generator, verb: bool = False) -> str:
    """A word that means nothing."""

    def pick(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    stem = "".join(pick(_ONSETS) + pick(_VOWELS) for _ in range(int(rng.integers(1, 3)))) + pick(_ENDS)
    return f"{stem}ing" if verb else stem


def with_invented(text: str, rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """A request with one or two of its telling phrases replaced, and the new words by the keys of what they stand for."""
    told = wordings(text)
    keys = [str(key) for key in rng.permutation(sorted(key for key in told if told[key] in text))]
    strange: dict[str, str] = {}
    for key in keys[: int(rng.integers(1, 3))]:
        word = invented(rng, verb=key == "motion")
        changed = re.sub(rf"(?<![\w-]){re.escape(told[key])}(?![\w-])", word, text, count=1)
        if changed != text:
            text, strange[key] = changed, word
    return text, strange
