"""The lab's dictionary: what a lookup in the training words alone makes of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from ..data.ids import derived_seed
from ..data.prompts import Prompt
from ..models import ModelPool
from .captions import ACTIONS, BACKGROUND_PHRASES, PAIR_VERBS, caption
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
from .scene import Body, Scene
from .world import BACKGROUNDS, COLOURS, DIRECTED_MOTIONS, DIRECTIONS, SHAPES, SINGLE_MOTIONS, SIZES

Table = tuple[tuple[re.Pattern[str], str], ...]
_CAPTION_SIZES = {"small": ("small",), "medium": ("medium-sized",), "large": ("large",)}
_CAPTION_DIRECTIONS = {"left_to_right": ("from left to right",), "right_to_left": ("from right to left",)}
_CAPTION_PAIRS = tuple(f"{{a}} {verb.split(' {d}')[0]}{{b}}" for verb in PAIR_VERBS)
_CAPTION_BESIDE = ("{a} resting on the ground to the left of {b}", "{a} on the left side and {b}")


def _pattern(phrase: str) -> str:
    """A phrase as a pattern; where it takes a direction, up to four words are skipped."""
    parts = [re.escape(part.strip()) for part in phrase.split("{d}") if part.strip()]
    return r"(?<![\w-])" + r"(?:\s+\S+){0,4}?\s+".join(parts) + r"(?![\w-])"


def _table(words: Wordings, captions: Mapping[str, Sequence[str]]) -> Table:
    """Patterns of the training wordings and of the captions' own words, the longest first."""
    pairs = [(phrase, name) for name, (trained, *_) in words.items() for phrase in (*trained, *captions.get(name, ()))]
    pairs.sort(key=lambda pair: -len(pair[0]))
    return tuple((re.compile(_pattern(phrase), re.IGNORECASE), name) for phrase, name in pairs)


@cache
def _tables() -> dict[str, Table]:
    return {
        "shape": _table(SHAPE_WORDS, {name: (name,) for name in SHAPES}),
        "colour": _table(COLOUR_WORDS, {}),
        "size": _table(SIZE_WORDS, _CAPTION_SIZES),
        "background": _table(BACKGROUND_WORDS, BACKGROUND_PHRASES),
        "direction": _table(DIRECTION_WORDS, _CAPTION_DIRECTIONS),
        "motion": _table(MOTION_WORDS, ACTIONS),
    }


@cache
def _pair_tables() -> Table:
    """Patterns of the phrasings with two bodies, as groups `a` and `b`, the longest first."""
    pairs = [(text, "collide") for text in (*COLLIDE_WORDS[0], *_CAPTION_PAIRS)]
    pairs += [(text, "beside") for text in (*BESIDE_WORDS[0], *_CAPTION_BESIDE)]
    pairs.sort(key=lambda pair: -len(pair[0]))
    found = []
    for text, name in pairs:
        escaped = re.escape(" ".join(text.replace("{d}", "").split()))
        named = escaped.replace(r"\{a\}", "(?P<a>.+)").replace(r"\{b\}", "(?P<b>.+)")
        found.append((re.compile(named, re.IGNORECASE), name))
    return tuple(found)


def _first(kind: str, text: str) -> str:
    return next((name for pattern, name in _tables()[kind] if pattern.search(text)), "")


def _shapes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and shape of the words for shapes in a text, in order."""
    found: list[tuple[int, int, str]] = []
    for pattern, name in _tables()["shape"]:
        for match in pattern.finditer(text):
            if all(match.end() <= start or match.start() >= end for start, end, _ in found):
                found.append((match.start(), match.end(), name))
    return sorted(found)


def _bodies(text: str) -> list[dict[str, str]]:
    """What is said of each body: the words between the one before and its own shape."""
    bodies, begin = [], 0
    for start, end, shape in _shapes(text):
        words = text[begin:start]
        bodies.append({"shape": shape, "colour": _first("colour", words), "size": _first("size", words)})
        begin = end
    return bodies


def _pair(text: str) -> tuple[str, list[dict[str, str]]]:
    """Motion and bodies of a request for two bodies in a phrasing that is known; no bodies if it is none."""
    for pattern, name in _pair_tables():
        match = pattern.search(text)
        if match:
            one, other = _bodies(match["a"]), _bodies(match["b"])
            if one and other:
                return name, [one[-1], other[0]]
    return "", []


def read_request(text: str) -> dict[str, object]:
    """What the training words say of a request; what they do not know is not there.

    Args:
        text: The request.

    Returns:
        `bodies` (one or two dicts of `shape`, `colour`, `size`; the left or moving one first), `motion`, `background` and
        `direction`, each empty where it was not understood.
    """
    motion, bodies = _pair(text)
    if not bodies:
        bodies = _bodies(text)[:2]
        # Two bodies without a verb that is known: the direction tells a collision from standing side by side.
        unknown = "collide" if _first("direction", text) else "beside"
        motion = _first("motion", text) if len(bodies) < 2 else unknown
    direction = _first("direction", text) if motion in DIRECTED_MOTIONS else ""
    return {
        # A body whose shape is not known may still have a colour that is.
        "bodies": bodies or [{"colour": _first("colour", text), "size": _first("size", text)}],
        "motion": motion,
        "background": _first("background", text),
        "direction": direction,
    }


class Dictionary:
    """Looks up what it knows and writes the caption of it in the training style.

    It knows the words of the training split's users and the captions' own, never those of the held-out split. What was not
    named or not understood is drawn as for a training scene, by a seed of the prompt.
    """

    def texts(self, prompts: Sequence[Prompt], models: ModelPool) -> list[str]:
        """A caption per prompt, a function of the prompt's text alone."""
        return [dictionary_caption(prompt.text) for prompt in prompts]


def dictionary_caption(text: str) -> str:
    """The training-style caption of what the training words say of a request."""
    rng = np.random.default_rng(derived_seed("dictionary", text))

    def known(value: object, options: Sequence[str]) -> str:
        return str(value) if value else options[int(rng.integers(len(options)))]

    found = read_request(text)
    said: list[dict[str, str]] = found["bodies"]  # type: ignore[assignment]
    colours, bodies = list(COLOURS), list[Body]()
    # As in training scenes: of two bodies none is large, and their colours differ.
    sizes = [size for size in SIZES if len(said) == 1 or size != "large"]
    for number, body in enumerate(said):
        others = [other.get("colour") for other in (*said[number + 1 :], *({"colour": b.colour} for b in bodies))]
        colour = known(body.get("colour"), [name for name in colours if name not in others])
        bodies.append(Body(known(body.get("shape"), list(SHAPES)), colour, known(body.get("size"), sizes)))
    motion = known(found["motion"], SINGLE_MOTIONS)
    direction = known(found["direction"], DIRECTIONS) if motion in DIRECTED_MOTIONS else ""
    return caption(Scene(tuple(bodies), known(found["background"], list(BACKGROUNDS)), motion, direction), rng)
