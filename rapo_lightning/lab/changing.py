"""Scenes with one attribute changed, for training data: what an attribute may be, and the scene that has it."""

from __future__ import annotations

from dataclasses import replace

from .scene import Scene
from .world import BACKGROUNDS, COLOURS, DIRECTED_MOTIONS, DIRECTIONS, SHAPES, SINGLE_MOTIONS, SIZES

SECOND = "_2"
"""Ends the keys of the second body's attributes."""


def options(scene: Scene, key: str) -> list[str]:
    """What an attribute of a scene may be; a scene keeps its number of bodies, and two have no large one.

    Args:
        scene: The scene.
        key: As in `Scene.attributes`.
    """
    alone = len(scene.bodies) == 1
    kinds: dict[str, list[str]] = {
        "shape": list(SHAPES),
        "colour": list(COLOURS),
        "size": [size for size in SIZES if alone or size != "large"],
        "background": list(BACKGROUNDS),
        "motion": list(SINGLE_MOTIONS) if alone else [scene.motion],
        "direction": list(DIRECTIONS),
    }
    return kinds[key.removesuffix(SECOND)]


def with_value(scene: Scene, key: str, value: str, direction: str = "") -> Scene:
    """The scene with another value of an attribute.

    Args:
        scene: The scene.
        key: As in `Scene.attributes`.
        value: One of `options`.
        direction: The direction, for a motion that has one.
    """
    if key == "motion":
        return replace(scene, motion=value, direction=direction if value in DIRECTED_MOTIONS else "")
    if key == "background":
        return replace(scene, background=value)
    if key == "direction":
        return replace(scene, direction=value)
    bodies, index = list(scene.bodies), int(key.endswith(SECOND))
    bodies[index] = replace(bodies[index], **{key.removesuffix(SECOND): value})
    return replace(scene, bodies=tuple(bodies))
