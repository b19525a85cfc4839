"""Reads a user's request to the last word: what it asks for, in which words, and why the lab may not understand it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from ..prompting.text import content_words, words
from .captions import ACTIONS, BACKGROUND_PHRASES, CAPTION_SIZES, CLOSINGS, DIRECTIONS, OPENINGS, PAIR_VERBS
from .lexicon import (
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
from .user_prompts import FRAMES
from .world import COLOURS, DIRECTED_MOTIONS, SHAPES

MAX_WORDS = 60
"""Longest request in words, the lab's own choice; the longest of the lab's users has 20, the longest caption 47."""
_NEGATIONS = re.compile(r"\b(?:no|not|never|without|none|nothing|neither|nor|cannot|except)\b|n['’]t\b", re.IGNORECASE)
_TELLING = frozenset([
    "up", "down", "off", "out", "over", "under", "above", "below", "between", "through", "against", "into", "more", "most",
    "few", "both", "all", "each", "every", "again", "once", "other", "than", "but", "if", "any", "before", "during", "after",
    "until", "while", "or", "yet", "one", "same", "own", "those", "these", "someone", "somebody", "he", "she", "they", "them",
])  # fmt: skip
"""Function words that change what is to be seen, so that they may not be passed over."""
_CAPTION_VERBS = {
    "fall": ("dropping", "bouncing"), "roll": ("rolling",), "slide": ("sliding",), "rise": ("rising",), "sink": ("sinking",),
    "swing": ("swinging",), "circle": ("circling",), "bob": ("bobbing",), "shuttle": ("shuttling",), "rest": ("resting",),
}  # fmt: skip
"""The captions' verbs where they stand alone."""
_CAPTION_RELATIONS = {
    "collide": (*PAIR_VERBS, "colliding with", "collides with", "which is pushed away"),
    "beside": (
        "resting on the ground to the left of", "to the left of", "on the left side", "on the right side",
        "both resting on the ground",
    ),
    "reversed": ("to the right of",),
}  # fmt: skip
_SIGN = re.compile(r"[^\w\s|.,;:?!'\"’‘“”()…–—&-]|_|[!–—-](?=[\w|])(?<![\w|].)")
"""What is no letter, digit or mark of a sentence, or negates the word that it stands before, as in `!red` and `-red`."""
_PLACEHOLDER = re.compile(r"\{\w+\}")


@dataclass(frozen=True)
class _Finding:
    """A known phrase in a request: where it stands, what kind of thing it names and which."""

    start: int
    end: int
    kind: str
    value: str
    words: str


def _pieces(template: str) -> Iterator[str]:
    """The fixed parts of a template that are more than stop words."""
    for piece in _PLACEHOLDER.split(template):
        text = piece.strip(" ,.?")
        if text and (content_words(text) or len(text.split()) > 1):
            yield text


def _table(kind: str, words_of: Wordings) -> Iterator[tuple[str, str, str]]:
    for value, splits in words_of.items():
        yield from ((kind, value, phrase) for phrases in splits for phrase in phrases)


def _relations() -> Iterator[tuple[str, str, str]]:
    for value, splits in (("collide", COLLIDE_WORDS), ("beside", BESIDE_WORDS)):
        for template in (template for templates in splits for template in templates):
            name = "reversed" if template.startswith("{b}") else value
            yield from (("relation", name, piece) for piece in _pieces(template))
    for value, phrases in _CAPTION_RELATIONS.items():
        yield from (("relation", value, phrase) for phrase in phrases)


def _caption_words() -> Iterator[tuple[str, str, str]]:
    """The captions' own words, which the lab's users never write but others may."""
    for motion, phrases in (*ACTIONS.items(), *_CAPTION_VERBS.items()):
        yield from (("motion", motion, phrase) for phrase in phrases)
    for place, phrases in BACKGROUND_PHRASES.items():
        yield from (("background", place, phrase) for phrase in phrases)
    yield from (("direction", name, phrase) for name, phrase in DIRECTIONS.items())
    yield from (("shape", name, name) for name in SHAPES)
    yield from (("colour", name, name) for name in COLOURS)
    yield from (("size", name, phrase) for phrase, name in {**CAPTION_SIZES, "medium": "medium"}.items())


def _frames() -> Iterator[tuple[str, str, str]]:
    templates = [*FRAMES[0], *FRAMES[1], *OPENINGS, *CLOSINGS.values()]
    yield from (("frame", "", piece) for template in templates for piece in _pieces(template))


def _compiled() -> list[tuple[re.Pattern[str], str, str]]:
    known: Iterable[tuple[str, str, str]] = [
        *_table("motion", MOTION_WORDS), *_table("shape", SHAPE_WORDS), *_table("colour", COLOUR_WORDS),
        *_table("size", SIZE_WORDS), *_table("background", BACKGROUND_WORDS), *_table("direction", DIRECTION_WORDS),
        *_relations(), *_caption_words(), *_frames(),
    ]  # fmt: skip
    directions = "|".join(re.escape(phrase) for kind, _, phrase in known if kind == "direction")
    patterns = []
    for kind, value, phrase in dict.fromkeys(known):
        text = re.escape(phrase).replace(r"\{d\}", "{d}").replace(r"\ {d}", rf"(?:\ (?P<d>{directions})(?![\w-]))?")
        patterns.append((len(phrase), re.compile(rf"(?<![\w-]){text}(?![\w-])", re.IGNORECASE | re.ASCII), kind, value))
    # Longer phrases first, so that "plus sign" is found before "plus" and "in the dark" before any part of it; directions
    # last, since they may stand within a motion's phrase.
    patterns.sort(key=lambda item: (item[2] == "direction", -item[0]))
    return [item[1:] for item in patterns]


_PATTERNS = _compiled()
_DIRECTION_OF = {
    phrase.lower(): value
    for kind, value, phrase in [*_table("direction", DIRECTION_WORDS), *_caption_words()]
    if kind == "direction"
}


@lru_cache(maxsize=4096)
def _read(prompt: str) -> tuple[tuple[_Finding, ...], str]:
    """The known phrases of a request in order, and the request with a bar in place of each."""
    text, found = " ".join(prompt.split()), []
    left = text
    for pattern, kind, value in _PATTERNS:
        for match in pattern.finditer(left):
            found.append(_Finding(match.start(), match.end(), kind, value, text[match.start() : match.end()]))
            inner = match.groupdict().get("d")
            if inner:
                found.append(
                    _Finding(match.start("d"), match.end("d"), "direction", _DIRECTION_OF[inner.lower()], inner)
                )
        # Bars keep places, and no phrase reaches over one.
        left = pattern.sub(lambda match: "|" * len(match[0]), left)
    return tuple(sorted(found, key=lambda item: item.start)), left


def _of(found: Iterable[_Finding], kind: str) -> list[_Finding]:
    return [item for item in found if item.kind == kind]


def _bodies(found: tuple[_Finding, ...]) -> list[dict[str, list[_Finding]]]:
    """For each shape that is named what else is said of it: what stands before it, or anywhere if it is alone."""
    shapes, begin = _of(found, "shape"), 0
    bodies = []
    for shape in shapes:
        near = [item for item in found if len(shapes) == 1 or begin <= item.start < shape.start]
        bodies.append({"shape": [shape], "colour": _of(near, "colour"), "size": _of(near, "size")})
        begin = shape.end
    return bodies


def _named(prompt: str) -> dict[str, _Finding]:
    found, _ = _read(prompt)
    bodies, named = _bodies(found)[:2], {}
    relations = _of(found, "relation") if len(bodies) == 2 else []
    motions = relations or (_of(found, "motion") if len(bodies) < 2 else [])
    if motions:
        named["motion"] = motions[0]
    if any(item.value == "reversed" for item in relations):
        bodies.reverse()
    for suffix, body in zip(("", "_2"), bodies, strict=False):
        named |= {f"{key}{suffix}": items[0] for key, items in body.items() if items}
    for kind in ("background", "direction"):
        named.update(zip([kind], _of(found, kind), strict=False))
    return named


def asked(prompt: str) -> dict[str, str]:
    """What a user's prompt names, read with the lab's own vocabulary.

    Args:
        prompt: A prompt, of the lab's users or typed by hand.

    Returns:
        Those of `shape, colour, size, shape_2, colour_2, size_2, background, motion, direction` that the prompt names.
        Body 2 is the one on the right (`beside`) or the one that is hit (`collide`).
    """
    wanted = {key: item.value.replace("reversed", "beside") for key, item in _named(prompt).items()}
    if wanted.get("motion") not in DIRECTED_MOTIONS:
        wanted.pop("direction", None)
    return wanted


def wordings(prompt: str) -> dict[str, str]:
    """The words by which a user's prompt names each attribute of `asked`."""
    wanted = asked(prompt)
    return {key: item.words for key, item in _named(prompt).items() if key in wanted}


def _contradiction(found: tuple[_Finding, ...]) -> str:
    """Why known phrases do not make one scene, empty if they do."""
    bodies = _bodies(found)
    if not bodies:
        return "It names no body that the lab has."
    if len(bodies) > 2:
        return f"It names {len(bodies)} bodies, and the lab has two at most."
    relations, motions = _of(found, "relation"), _of(found, "motion")
    if len(bodies) == 2 and (motions or len({item.value == "collide" for item in relations}) != 1):
        return "It names two bodies, and neither that one hits the other nor which is on the left."
    if len(bodies) == 1 and relations:
        return "It says what a body does to another, but names only one."
    told = {**{kind: _of(found, kind) for kind in ("motion", "background", "direction")}}
    told |= {f"{key} of a body": items for body in bodies for key, items in body.items()}
    for name, items in told.items():
        if len({item.value for item in items}) > 1:
            return f"It says more than one {name}: " + ", ".join(f'"{item.words}"' for item in items) + "."
    given = [item for body in bodies for items in body.values() for item in items]
    loose = [item for item in found if item.kind in ("colour", "size") and item not in given]
    if loose:
        return f'It does not say what is "{loose[0].words}".'
    if told["direction"] and not (relations or motions):
        return f'It says "{told["direction"][0].words}" of a body that it does not say to move.'
    if told["direction"] and (relations or motions)[0].value not in DIRECTED_MOTIONS:
        return f'It says "{told["direction"][0].words}" of what has no direction in the lab.'
    return ""


def refusal(prompt: str) -> str:
    """Why the lab does not understand a request, in one sentence; empty if it understands every word.

    Args:
        prompt: A prompt, of the lab's users or typed by hand.
    """
    count = len(words(prompt))
    if not count:
        return "It has no words."
    if count > MAX_WORDS:
        return f"It has {count} words, and the lab reads {MAX_WORDS} at most."
    found, left = _read(prompt)
    negation = _NEGATIONS.search(left)
    if negation:
        return f'It says "{negation[0]}", and the lab reads only what is to be seen.'
    sign = _SIGN.search(left)
    if sign:
        return f'It has the sign "{sign[0]}", and the lab reads only words.'
    unknown = list(dict.fromkeys(word for word in words(left) if word in _TELLING or word in content_words(word)))
    if unknown:
        return "It says " + ", ".join(f'"{word}"' for word in unknown[:3]) + ", which the lab does not know."
    return _contradiction(found)
