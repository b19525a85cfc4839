"""The lab's judge in words: what a video shows, what a request asks for, and what of it is missing or wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..prompting.judging import MISSING, SCORE_MARK
from .degrade import UNKNOWN

NAMES = {
    "shape": "shape", "colour": "colour", "size": "size", "shape_2": "second shape", "colour_2": "second colour",
    "size_2": "second size", "motion": "motion", "direction": "direction", "background": "place",
}  # fmt: skip
"""The judge's names of the attributes of `requests.asked`, in the order in which it goes through them."""
FAULT_NAMES = {
    "scene": "unclear frames", "light": "flickering light", "gone": "disappearing body", "shape": "changing shape",
    "colour": "changing colour", "size": "changing size", "jumps": "jumping body", "stutters": "stuttering motion",
    "stops": "stopping motion", "extra": "extra body", "still": "nothing moves",
}  # fmt: skip
"""The judge's names of the faults of `steadiness.FAULTS`, in its order."""
NOTHING = "nothing"
_MOTIONS = {
    "fall": "dropping and bouncing", "roll": "rolling evenly", "slide": "sliding to a halt", "rise": "rising",
    "sink": "sinking", "swing": "swinging on a thread", "throw": "thrown in an arc", "rest": "at rest",
    "circle": "circling", "bob": "bobbing up and down", "shuttle": "shuttling left and right", "collide": "colliding",
    "beside": "side by side", UNKNOWN: "doing something else",
}  # fmt: skip
_PLACES = {
    "studio": "in a grey studio", "night": "in a dark night", "snow": "in a snowy landscape", "desert": "in a desert",
    "meadow": "in a meadow", "cellar": "in a brown cellar", UNKNOWN: "in another place",
}  # fmt: skip
_DIRECTIONS = {"left_to_right": "from left to right", "right_to_left": "from right to left"}
_UNKNOWN_WORDS = {"shape": "other thing", "colour": "other-coloured", "size": "other-sized"}


def _body(attributes: Mapping[str, str], suffix: str) -> str:
    """Size, colour and shape, as far as they are given; empty without any."""
    given = {key: attributes.get(f"{key}{suffix}", "") for key in ("size", "colour", "shape")}
    if not any(given.values()):
        return ""
    words = {key: _UNKNOWN_WORDS[key] if value == UNKNOWN else value for key, value in given.items()}
    text = " ".join(word for word in (words["size"], words["colour"], words["shape"] or "body") if word)
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def phrase(attributes: Mapping[str, str]) -> str:
    """Attributes in words, in a fixed order; what is not given is left out.

    Args:
        attributes: Values by the keys of `requests.asked`; `degrade.UNKNOWN` stands for what the lab has not.
    """
    bodies = " and ".join(filter(None, (_body(attributes, ""), _body(attributes, "_2"))))
    motion = " ".join(
        filter(None, (_MOTIONS.get(attributes.get("motion", "")), _DIRECTIONS.get(attributes.get("direction", ""))))
    )
    place = _PLACES.get(attributes.get("background", ""), "")
    return ", ".join(part for part in (bodies, motion, place) if part) or NOTHING


def description(attributes: Mapping[str, str], faults: Sequence[str]) -> str:
    """The judge's first answer: what a video shows, and its faults.

    Args:
        attributes: `oracle.Reading.attributes`.
        faults: `oracle.Reading.faults`.
    """
    seen = [name for fault, name in FAULT_NAMES.items() if fault in faults]
    return f"The video shows {phrase(attributes)}{'; ' if seen else ''}{', '.join(seen)}."


def problems(right: Mapping[str, bool], faults: Sequence[str]) -> list[str]:
    """Names of what is missing or wrong, and of the faults."""
    wrong = [name for key, name in NAMES.items() if not right.get(key, True)]
    return wrong + [name for fault, name in FAULT_NAMES.items() if fault in faults]


def comparison(wanted: Mapping[str, str], right: Mapping[str, bool], faults: Sequence[str]) -> str:
    """The judge's second answer up to its score.

    Args:
        wanted: What was asked for, by the keys of `requests.asked`.
        right: For each of them whether it is shown.
        faults: Keys of `steadiness.FAULTS`.
    """
    return f"It asks for {phrase(wanted)}. {missing(right, faults)} {SCORE_MARK}"


def missing(right: Mapping[str, bool], faults: Sequence[str]) -> str:
    """The sentence that names what is missing or wrong, and the faults."""
    return f"{MISSING}{', '.join(problems(right, faults)) or NOTHING}."


def read_problems(answer: str) -> list[str]:
    """The problems that a judge's second answer names."""
    listed = answer.partition(MISSING)[2].partition(".")[0]
    return [name for name in listed.split(", ") if name and name != NOTHING]
