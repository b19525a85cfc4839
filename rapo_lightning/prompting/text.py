"""Small operations on prompts that several stages need."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files


def one_line(text: str) -> str:
    """A text without line breaks, as a prompt must be."""
    return " ".join(text.split())


def shorten(text: str, max_words: int) -> str:
    """The first sentences of a text that stay within `max_words`; the first words of it if no sentence ends there."""
    if len(text.split()) <= max_words:
        return text
    head = " ".join(text.split()[:max_words])
    end = max(head.rfind(mark) for mark in ".!?")
    return head[: end + 1] if end > 0 else head


def words(text: str) -> list[str]:
    """Words of a text in lower case."""
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+", text.lower())


@cache
def stop_words() -> frozenset[str]:
    """Words that say nothing of what is to be seen: function words, and words by which people ask for a video."""
    return frozenset((files(__package__) / "stop_words.txt").read_text(encoding="utf-8").split())


def content_words(text: str) -> list[str]:
    """The words of a text that are no stop words, in order."""
    return [word for word in words(text) if word not in stop_words()]
