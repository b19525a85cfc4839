"""Which words a refiner has been taught: those of the thesaurus and of the lexicon's training users, by what they name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache

from ...prompting.text import content_words, stem
from ..degrade import thesaurus
from ..lexicon import (
    BACKGROUND_WORDS,
    BESIDE_WORDS,
    COLLIDE_WORDS,
    COLOUR_WORDS,
    DIRECTION_WORDS,
    MOTION_WORDS,
    SHAPE_WORDS,
    SIZE_WORDS,
    Wordings,
)
from ..world import DOUBLE_MOTIONS

_KINDS: Mapping[str, tuple[str, Wordings]] = {
    "colour": ("colours", COLOUR_WORDS),
    "shape": ("shapes", SHAPE_WORDS),
    "size": ("sizes", SIZE_WORDS),
    "background": ("backgrounds", BACKGROUND_WORDS),
    "direction": ("directions", DIRECTION_WORDS),
    "motion": ("motions", MOTION_WORDS),
}
"""Where the wordings of an attribute stand: in the thesaurus, and in the lexicon."""
_HOLE = re.compile(r"\{[abd]\}")


def _trained(kind: str) -> dict[str, list[str]]:
    """The wordings of each value that are in a training prompt; `(a|b)` is a choice, `{d}` a direction."""
    name, lexicon = _KINDS[kind]
    found = {value: list(texts) for value, texts in thesaurus()[name].items()}
    more = {value: splits[0] for value, splits in lexicon.items()}
    if kind == "motion":
        more |= {"collide": COLLIDE_WORDS[0], "beside": BESIDE_WORDS[0]}
    for value, texts in more.items():
        found[value] += texts
    return found


def _pieces(wording: str) -> Iterator[str]:
    """The parts of a wording between its holes that tell something."""
    for piece in _HOLE.split(wording):
        if content_words(piece):
            yield piece.strip(" ,")


def _pattern(piece: str) -> str:
    return piece.replace("(", "(?:").replace(" ", r"\s*")


@cache
def _phrases(kind: str) -> dict[str, re.Pattern[str]]:
    """For each value whatever its wordings may be; longer ones need not come first, since any will do."""
    found = {}
    for value, texts in _trained(kind).items():
        pieces = dict.fromkeys(piece for text in texts for piece in _pieces(text))
        choices = "|".join(f"(?:{_pattern(piece)})" for piece in pieces)
        found[value] = re.compile(rf"(?<![\w-])(?:{choices})(?![\w-])", re.IGNORECASE)
    return found


@cache
def _own_stems(kind: str) -> dict[str, set[str]]:
    """Stems that occur in the wordings of one value and of no other, of motions with as many bodies."""
    own: dict[str, set[str]] = defaultdict(set)
    places: dict[tuple[bool, str], set[str]] = defaultdict(set)
    for value, texts in _trained(kind).items():
        for word in content_words(" ".join(texts)):
            places[value in DOUBLE_MOTIONS, stem(word)].add(value)
    # Prepositions that the list of function words does not have.
    for word in ("into", "against"):
        places.pop((True, word), None)
    for (_, name), values in places.items():
        if len(values) == 1:
            own[next(iter(values))].add(name)
    return own


def taught(key: str, value: str, said: str) -> bool:
    """Whether a request names an attribute in words that a training prompt has for the same value.

    One word is enough which training prompts have for that value and for no other of its kind, whatever its inflection: "rolls"
    for "rolling along", "grass" for "on the grass".

    Args:
        key: Key of `requests.asked`.
        value: What it asks for.
        said: The words by which it does, or the whole request where they are not known.
    """
    kind = key.removesuffix("_2")
    if _phrases(kind)[value].search(said):
        return True
    return bool(_own_stems(kind)[value] & {stem(word) for word in content_words(said)})
