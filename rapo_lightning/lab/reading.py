"""Reads captions of the lab back, in the captions' vocabulary alone: their scene, and what a text names in their words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..prompting.text import content_words, words
from ..stage1.branches import CARRIED
from .captions import ACTIONS, BACKGROUND_PHRASES, CAPTION_SIZES, PAIR_VERBS
from .labels import read_labels
from .requests import asked, wordings
from .scene import Body, Scene
from .world import COLOURS, SHAPES

BODY = re.compile(rf"\ban? (small|medium-sized|large) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")
PLACE = re.compile(r", ([^,.]+)(?=\. )")
DIRECTION = re.compile(r"from (left to right|right to left)")
_MOTION_STEMS = {
    "fall": r"dropping (?:straight|from above)|bouncing (?:back up|off)",
    "roll": r"rolling (?:along|steadily)(?!.*collid)",
    "slide": r"sliding",
    "rise": r"\brising",
    "sink": r"\bsinking",
    "swing": r"swinging|pendulum",
    "throw": r"\bthrown",
    "rest": r"resting (?:motionless|still)",
    "circle": r"\bcircling",
    "bob": r"\bbobbing",
    "shuttle": r"\bshuttling",
}
_BACKGROUND_STEMS = {
    "studio": r"gr[ea]y studio|grey walls",
    "night": r"night",
    "snow": r"\bsnow",
    "desert": r"\bdesert",
    "meadow": r"\bmeadow",
    "cellar": r"\bcellar",
}
_SIDES = r"to the left of|on the left side"
_SHAPE = re.compile(rf"\b(?:{'|'.join(SHAPES)})\b")
_COLOUR, _SIZE = re.compile(rf"\b(?:{'|'.join(COLOURS)})\b"), re.compile(rf"\b(?:{'|'.join(CAPTION_SIZES)})\b")


def read_caption(text: str) -> Scene | None:
    """The scene of a training-style caption, or None if the text is no such caption."""
    bodies = tuple(Body(m[3], m[2], CAPTION_SIZES[m[1]]) for m in BODY.finditer(text))
    background = next((name for name, phrases in BACKGROUND_PHRASES.items() if any(p in text for p in phrases)), "")
    plain = DIRECTION.sub("{d}", text)
    motions = [name for name, phrases in ACTIONS.items() if any(phrase in plain for phrase in phrases)]
    if len(bodies) == 2:
        collide = any(verb in plain for verb in PAIR_VERBS)
        motions = ["collide"] if collide else ["beside"] if "left" in plain else []
    if not bodies or not background or len(motions) != 1:
        return None
    direction = DIRECTION.search(text)
    return Scene(bodies, background, motions[0], direction[1].replace(" ", "_") if direction else "")


def named(text: str) -> dict[str, set[str]]:
    """Every attribute value that a text names in the captions' words; users' synonyms are not known here.

    Args:
        text: A caption, or what should be one.

    Returns:
        Values by attribute (the keys of `requests.asked`); more than one where the text contradicts itself.
    """
    found: dict[str, set[str]] = {}
    shapes, begin = list(_SHAPE.finditer(text)), 0
    for suffix, shape in zip(("", "_2"), shapes, strict=False):
        before, begin = text[begin : shape.start()], shape.end()
        found[f"shape{suffix}"] = {shape[0]}
        found[f"colour{suffix}"] = set(_COLOUR.findall(before))
        found[f"size{suffix}"] = {CAPTION_SIZES[name] for name in _SIZE.findall(before)}
    stems = _MOTION_STEMS if len(shapes) < 2 else {"collide": "collid", "beside": _SIDES}
    found["motion"] = {name for name, stem in stems.items() if re.search(stem, text)}
    found["background"] = {name for name, stem in _BACKGROUND_STEMS.items() if re.search(stem, text)}
    found["direction"] = {name.replace(" ", "_") for name in DIRECTION.findall(text)}
    return {key: values for key, values in found.items() if values}


def translated(source: str, aligned: str, label: Mapping[str, str] | None = None) -> dict[str, bool]:
    """For each attribute that a user's prompt names, whether the caption names the same and nothing else instead.

    Args:
        source: The user's prompt.
        aligned: What stage 1 made of it; what it carried over from the request does not count.
        label: What the prompt asks for, where its author wrote that down; None reads the prompt.
    """
    found, wanted = named(aligned.split(CARRIED)[0]), label or asked(source)
    return {key: found.get(key) == {value} for key, value in wanted.items()}


class CaptionReader:
    """Tells whether a caption names what a request names, in the lab's words (`stage3.reader`)."""

    def __init__(self, asked: str = "") -> None:
        """Takes what is known of requests.

        Args:
            asked: As `LabOracle` takes it.
        """
        self._labels = read_labels(asked)

    def right(self, request: str, text: str) -> dict[str, bool]:
        """As `translated`."""
        return translated(request, text, self._labels.get(request.strip()))


def survival(source: str, aligned: str) -> dict[str, bool]:
    """For each attribute that a user's prompt names, whether the aligned prompt still names it.

    Either the caption names the value and no other, or the user's own words for it are all still there.

    Args:
        source: The user's prompt.
        aligned: What stage 1 made of it.
    """
    said, phrases = set(words(aligned)), wordings(source)
    right = translated(source, aligned)
    for key in right:
        own = set(content_words(phrases.get(key, "")))
        right[key] = right[key] or bool(own and own <= said)
    return right
