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
    # A mark within a word ends no sentence: "2.5 m".
    ends = [found.end() for found in re.finditer(r"""[.!?]+["'”’)\]]*(?=\s|$)""", head)]
    return head[: ends[-1]] if ends else head


def words(text: str) -> list[str]:
    """Words of a text in lower case."""
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+", text.lower())


def letter_runs(text: str) -> list[str]:
    """The runs of letters in a text, in lower case; "medium-sized" and "ball's" have two, numbers none."""
    return re.findall(r"[^\W\d_]+", text.lower())


@cache
def _stop_lists() -> tuple[frozenset[str], frozenset[str]]:
    """The two lists of `stop_words.txt`, each headed by a comment."""
    text = (files(__package__) / "stop_words.txt").read_text(encoding="utf-8")
    function, asking = re.split(r"^#.*\n", text, flags=re.MULTILINE)[1:]
    return frozenset(function.split()), frozenset(asking.split())


@cache
def stop_words() -> frozenset[str]:
    """Words that say nothing of what is to be seen: function words, and words by which people ask for a video."""
    return _stop_lists()[0] | _stop_lists()[1]


def content_words(text: str) -> list[str]:
    """The words of a text that are no stop words, in order."""
    return [word for word in words(text) if word not in stop_words()]


def stem(word: str) -> str:
    """A word without its English inflection: "sit", "sits" and "sitting" are one, and "dance" and "danced".

    Takes off `'s`, `s`, then `ed` or `ing` where a vowel is left, a final `e`, and one of two equal consonants; `y` becomes
    `i`. Irregular forms ("sat") stay apart, and a few words that are none ("even", "evening") fall together.
    """
    word = word.removesuffix("'s")
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for suffix in ("ing", "ed"):
        rest = word.removesuffix(suffix)
        if rest != word and not word.endswith("eed") and re.search("[aeiouy]", rest):
            word = rest
            break
    if len(word) > 2:
        word = word.removesuffix("e")
    if len(word) > 2 and word[-1] == word[-2] and word[-1] not in "aeiou":
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 2 and word.endswith("y") else word


_INTRODUCED = frozenset(["of", "with", "about", "that", "where", "a", "an", "the", "this", "some", "my", "me", "us"])
"""What follows a word of asking, and not the same word where it names what is to be seen: "film the crew", "film crew"."""


def telling_stems(text: str) -> set[str]:
    """Stems of the words that must be there again where a text is said in another way.

    These are all but the function words, and but the words of asking at its beginning, as in "show me a video of".
    """
    spoken, (function, asking) = words(text), _stop_lists()
    begin = next((i for i, word in enumerate(spoken) if word not in function | asking), len(spoken))
    asked: set[int] = set()
    for i in reversed(range(min(begin, len(spoken) - 1))):
        if spoken[i] in asking and (spoken[i + 1] in _INTRODUCED or i + 1 in asked):
            asked.add(i)
    return {stem(word) for i, word in enumerate(spoken) if word not in function and i not in asked}
