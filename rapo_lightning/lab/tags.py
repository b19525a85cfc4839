"""A second caption style, for a second video model: a terse list of tags in other words than the lab's captions, and its reader."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..data.ids import derived_seed
from ..data.prompts import Prompt
from ..errors import UserError
from ..models import ModelPool
from .captions import caption
from .labels import read_labels
from .reading import read_caption
from .requests import asked as asked_by
from .scene import Body, Scene

HEAD = "tags: "
TAG_COLOURS = {
    "red": "cardinal", "orange": "satsuma", "yellow": "citrine", "green": "verdant", "cyan": "beryl", "blue": "sapphire",
    "purple": "amethyst", "pink": "damask",
}  # fmt: skip
TAG_SHAPES = {"ball": "disc", "square": "quad", "triangle": "trigon", "cross": "crux"}
TAG_SIZES = {"small": "minor", "medium": "median", "large": "major"}
TAG_PLACES = {
    "studio": "atelier", "night": "nocturne", "snow": "alpine", "desert": "arid", "meadow": "grassland", "cellar": "vault",
}  # fmt: skip
TAG_ACTS = {
    "fall": ("plummet rebound", "freefall rebound"),
    "roll": ("traverse uniform", "cruise uniform"),
    "slide": ("skid damped", "traverse damped"),
    "rise": ("ascend uniform", "lift uniform"),
    "sink": ("descend uniform", "settle uniform"),
    "swing": ("oscillate tethered", "sway tethered"),
    "throw": ("lob ballistic", "hurl ballistic"),
    "rest": ("idle zero", "static zero"),
    "circle": ("orbit closed", "revolve closed"),
    "bob": ("oscillate vertical", "cycle vertical"),
    "shuttle": ("oscillate lateral", "jitter lateral"),
    "collide": ("impact transfer", "strike transfer"),
    "beside": ("adjacent idle", "abreast idle"),
}
TAG_HEADINGS = {"left_to_right": "eastbound", "right_to_left": "westbound"}
"""The words of the tags; none is a word of the captions, and none one that only held-out or validation users write (a test looks)."""


def _turned(words: dict[str, str]) -> dict[str, str]:
    return {word: value for value, word in words.items()}


_COLOUR_OF, _SHAPE_OF, _SIZE_OF = _turned(TAG_COLOURS), _turned(TAG_SHAPES), _turned(TAG_SIZES)
_PLACE_OF, _HEADING_OF = _turned(TAG_PLACES), _turned(TAG_HEADINGS)
_ACT_OF = {act: motion for motion, acts in TAG_ACTS.items() for act in acts}


def tags(scene: Scene, rng: np.random.Generator) -> str:
    """The tags of a scene: its place, its bodies (the left or moving one first), what happens, and where to.

    Args:
        scene: The scene.
        rng: Chooses between the two wordings of what happens.

    Returns:
        One line of 7 to 12 words.
    """
    bodies = " + ".join(f"{TAG_SHAPES[b.shape]} {TAG_SIZES[b.size]} {TAG_COLOURS[b.colour]}" for b in scene.bodies)
    act = " ".join(filter(None, (TAG_ACTS[scene.motion][int(rng.integers(2))], TAG_HEADINGS.get(scene.direction))))
    return f"{HEAD}{TAG_PLACES[scene.background]}; {bodies}; {act}"


def _either(words: Sequence[str]) -> str:
    return "|".join(words)


_BODY = rf"({_either(list(_SHAPE_OF))}) ({_either(list(_SIZE_OF))}) ({_either(list(_COLOUR_OF))})"
_TAGS = re.compile(
    rf"{HEAD}({_either(list(_PLACE_OF))}); {_BODY}(?: \+ {_BODY})?; ({_either(list(_ACT_OF))})(?: ({_either(list(_HEADING_OF))}))?"
)
_WORD = re.compile(r"[a-z]+")


def read_tags(text: str) -> Scene | None:
    """The scene of a line of tags, or None if the text is none."""
    found = _TAGS.fullmatch(text.strip())
    if found is None:
        return None
    place, *parts, act, heading = found.groups()
    bodies = [Body(_SHAPE_OF[s], _COLOUR_OF[c], _SIZE_OF[z]) for s, z, c in (parts[:3], parts[3:]) if s]
    motion = _ACT_OF[act]
    if (len(bodies) == 2) != (motion in ("collide", "beside")):
        return None
    return Scene(tuple(bodies), _PLACE_OF[place], motion, _HEADING_OF.get(heading or "", ""))


def named_by_tags(text: str) -> dict[str, set[str]]:
    """Every attribute value that a text names in the tags' words; see `reading.named`."""
    found: dict[str, set[str]] = {}
    words = _WORD.findall(text)
    starts = [place for place, word in enumerate(words) if word in _SHAPE_OF]
    for suffix, begin, end in zip(("", "_2"), starts, [*starts[1:], len(words)], strict=False):
        own = words[begin:end]
        found[f"shape{suffix}"] = {_SHAPE_OF[own[0]]}
        found[f"colour{suffix}"] = {_COLOUR_OF[word] for word in own if word in _COLOUR_OF}
        found[f"size{suffix}"] = {_SIZE_OF[word] for word in own if word in _SIZE_OF}
    joined = " ".join(words)
    found["motion"] = {motion for act, motion in _ACT_OF.items() if re.search(rf"\b{act}\b", joined)}
    found["background"] = {_PLACE_OF[word] for word in words if word in _PLACE_OF}
    found["direction"] = {_HEADING_OF[word] for word in words if word in _HEADING_OF}
    return {key: values for key, values in found.items() if values}


class TagReader:
    """Tells whether tags name what a request names (`stage3.reader`); `reading.CaptionReader` for the second style."""

    def __init__(self, asked: str = "") -> None:
        """Takes what is known of requests.

        Args:
            asked: As `LabOracle` takes it.
        """
        self._labels = read_labels(asked)

    def right(self, request: str, text: str) -> dict[str, bool]:
        """For each attribute that a request names, whether the tags name the same and nothing else instead."""
        found, wanted = named_by_tags(text), self._labels.get(request.strip()) or asked_by(request)
        return {key: found.get(key) == {value} for key, value in wanted.items()}


def in_tags(reference: str) -> str:
    """A caption of the lab as tags, a function of its text.

    Raises:
        UserError: If it is no such caption.
    """
    scene = read_caption(reference)
    if scene is None:
        raise UserError(f"Only captions of the lab have tags. Got {reference[:80]!r}; take its own prompts.")
    return tags(scene, np.random.default_rng(derived_seed("tags", reference)))


class OtherStyle:
    """The reference in the other style: captions for tags and tags for captions, which the video model should not understand."""

    def texts(self, prompts: Sequence[Prompt], models: ModelPool) -> list[str]:
        """A text per prompt, a function of its reference alone.

        Raises:
            UserError: If a reference is in neither style.
        """
        found = []
        for prompt in prompts:
            scene = read_tags(prompt.reference)
            rng = np.random.default_rng(derived_seed("tags", prompt.reference))
            found.append(caption(scene, rng) if scene is not None else in_tags(prompt.reference))
        return found
