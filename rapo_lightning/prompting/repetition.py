"""Whether a text says the same again and again, as language models do that do not find the end."""

from __future__ import annotations

import re
from collections.abc import Sequence

LEAST_TIMES = 3
"""How often a phrase stands in a row for that to be a loop (ours): saying it twice is style."""
LEAST_WORDS = 12
"""Words that such a loop has at least (ours): "a red ball, a red ball, a red ball" is none, and four times is."""
NGRAM = 4
"""Words of the phrases that are counted anywhere in a text; Gopher's filter (arXiv:2112.11446, table A1) counts 2 to 10."""
MOST_REPEATED = 0.5
"""Share of the phrases that may stand in a text before (ours; the 944 prompts of VBench and the shipped captions have none)."""
FEWEST_PHRASES = 12
"""Phrases below which that share says nothing (ours)."""
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?:['’][^\W_]+)?")
"""A word, or a letter of a script that is written without spaces."""
_WITHOUT_BLANK = re.compile(r"(\S{1,12}?)\1{11}")
"""The same few characters twelve times (ours): "hahaha...", "!!!...", and words run together."""


def repeats(text: str) -> bool:
    """Whether a text holds a loop, or consists of the same phrases for the most part.

    Args:
        text: Any text; case and punctuation between words do not matter.
    """
    words = _TOKEN.findall(text.lower())
    return has_loop(words) or repeated_share(words) > MOST_REPEATED or bool(_WITHOUT_BLANK.search(text))


def has_loop(words: Sequence[str]) -> bool:
    """Whether some words in a row are one phrase, `LEAST_TIMES` times or more, and `LEAST_WORDS` words or more."""
    for period in range(1, len(words) // LEAST_TIMES + 1):
        length = period
        for place in range(period, len(words)):
            length = length + 1 if words[place] == words[place - period] else period
            if length >= max(LEAST_WORDS, LEAST_TIMES * period):
                return True
    return False


def repeated_share(words: Sequence[str]) -> float:
    """Share of the phrases of `NGRAM` words that stand in the text before, 0..1; 0 for a text with few phrases."""
    phrases = [tuple(words[begin : begin + NGRAM]) for begin in range(len(words) - NGRAM + 1)]
    return 1 - len(set(phrases)) / len(phrases) if len(phrases) >= FEWEST_PHRASES else 0.0
