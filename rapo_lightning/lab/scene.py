"""Scenes of the lab world: what a scene is, how to draw one, and which split it belongs to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np

from .world import (
    BACKGROUNDS,
    COLOURS,
    DIRECTED_MOTIONS,
    DIRECTIONS,
    DOUBLE_MOTIONS,
    SHAPES,
    SINGLE_MOTIONS,
    SIZES,
)

HELD_OUT_SHARE = 0.1
"""Share of all scenes that no model and no refiner is ever trained on."""


@dataclass(frozen=True)
class Body:
    """One object: a `shape` of `world.SHAPES`, a `colour` of `world.COLOURS`, a `size` of `world.SIZES`."""

    shape: str
    colour: str
    size: str


@dataclass(frozen=True)
class Scene:
    """What happens in one clip.

    Attributes:
        bodies: One body, or two for the motions of `world.DOUBLE_MOTIONS`. The first of two is the one on the left
            (`beside`) or the one that moves first (`collide`).
        background: Key of `world.BACKGROUNDS`.
        motion: One of `world.MOTIONS`.
        direction: One of `world.DIRECTIONS` where the motion has one, else empty.
    """

    bodies: tuple[Body, ...]
    background: str
    motion: str
    direction: str = ""

    @property
    def split(self) -> str:
        """`"train"` or `"heldout"`, from a hash of the scene's attributes: the same on every machine."""
        digest = hashlib.sha256(self.to_json().encode()).digest()
        return "heldout" if digest[0] / 256 < HELD_OUT_SHARE else "train"

    @property
    def attributes(self) -> dict[str, str]:
        """What is to be read from a perfect video of the scene, by the keys of `requests.asked`."""
        found = {"background": self.background, "motion": self.motion, "direction": self.direction}
        for suffix, body in zip(("", "_2"), self.bodies, strict=False):
            found |= {f"shape{suffix}": body.shape, f"colour{suffix}": body.colour, f"size{suffix}": body.size}
        return {key: value for key, value in found.items() if value}

    def to_json(self) -> str:
        """The scene as one line of JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Scene:
        """Reads what `to_json` wrote."""
        fields = json.loads(text)
        return cls(tuple(Body(**body) for body in fields.pop("bodies")), **fields)


def _pick(rng: np.random.Generator, options: object) -> str:
    names = list(options)  # type: ignore[call-overload]
    return str(names[int(rng.integers(len(names)))])


def _draw(rng: np.random.Generator) -> Scene:
    # Two-body scenes have fewer laws but more combinations: a quarter of all scenes keeps both kinds learnable.
    motion = _pick(rng, DOUBLE_MOTIONS if rng.random() < 0.25 else SINGLE_MOTIONS)
    direction = _pick(rng, DIRECTIONS) if motion in DIRECTED_MOTIONS else ""
    background = _pick(rng, BACKGROUNDS)
    if motion in DOUBLE_MOTIONS:
        # Different colours, so that "which one" has an answer; no large bodies, so that both fit on the floor.
        colours = rng.permutation(list(COLOURS))[:2]
        sizes = [size for size in SIZES if size != "large"]
        bodies = tuple(Body(_pick(rng, SHAPES), str(colour), _pick(rng, sizes)) for colour in colours)
    else:
        bodies = (Body(_pick(rng, SHAPES), _pick(rng, COLOURS), _pick(rng, SIZES)),)
    return Scene(bodies, background, motion, direction)


def sample_scene(rng: np.random.Generator, split: str = "train") -> Scene:
    """Draws one scene.

    Args:
        rng: Source of randomness.
        split: `"train"` or `"heldout"`; scenes of the other split are redrawn.

    Raises:
        ValueError: If `split` is neither.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"The split must be 'train' or 'heldout'. Got {split!r}.")
    while True:
        scene = _draw(rng)
        if scene.split == split:
            return scene
