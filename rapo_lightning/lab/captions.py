"""Writes the one caption style that the lab's video model is trained on."""

from __future__ import annotations

import numpy as np

from .scene import Body, Scene

OPENINGS = (
    "A simple animation shows",
    "The animated clip presents",
    "This short animation depicts",
)
BACKGROUND_PHRASES = {
    "studio": ("in an empty grey studio", "against the neutral grey walls of a studio"),
    "night": ("under a dark night sky", "in the darkness of a clear night"),
    "snow": ("in a bright snowy landscape", "on white snow beneath a pale sky"),
    "desert": ("in a sandy desert", "on the warm sand of a desert"),
    "meadow": ("in a green meadow", "on the grass of a quiet meadow"),
    "cellar": ("in a dim brown cellar", "between the brown walls of a cellar"),
}
# "{d}" is the direction in words.
ACTIONS = {
    "fall": ("dropping straight to the ground and bouncing back up", "dropping from above and bouncing off the ground"),
    "roll": ("rolling along the ground {d} at a constant speed", "rolling steadily {d} across the ground"),
    "slide": ("sliding {d} along the ground and slowing to a halt", "sliding {d} until friction brings it to a halt"),
    "rise": ("rising slowly and steadily from the ground", "rising vertically at a constant speed"),
    "sink": ("sinking slowly and steadily to the ground", "sinking vertically at a constant speed"),
    "swing": ("swinging on a thread like a pendulum", "swinging back and forth as a pendulum on a thread"),
    "throw": ("thrown {d} on a high parabolic arc", "thrown upwards and flying {d} in a parabolic arc"),
    "rest": ("resting motionless on the ground", "resting still on the ground"),
    "circle": ("circling around the centre of the frame", "circling steadily on a round path"),
    "bob": ("bobbing up and down in mid-air", "bobbing vertically in mid-air around one height"),
    "shuttle": (
        "shuttling left and right along the ground",
        "shuttling sideways along the ground around one spot",
    ),
}
PAIR_VERBS = ("rolling {d} and colliding with", "rolling along the ground {d} until it collides with")
DIRECTIONS = {"left_to_right": "from left to right", "right_to_left": "from right to left"}
CAPTION_SIZES = {"small": "small", "medium-sized": "medium", "large": "large"}
"""Sizes by the captions' words for them."""
CLOSINGS = {
    "still": "Nothing moves while the camera stays fixed.",
    "moving": "The motion is smooth and the camera stays fixed.",
}


def _body(body: Body) -> str:
    article = "an" if body.colour == "orange" and not body.size else "a"
    size = "medium-sized" if body.size == "medium" else body.size
    return f"{article} {size} {body.colour} {body.shape}"


def _action(scene: Scene, variant: int) -> str:
    direction = DIRECTIONS.get(scene.direction, "")
    names = [_body(body) for body in scene.bodies]
    if scene.motion == "collide":
        return f"{names[0]} {PAIR_VERBS[variant].format(d=direction)} {names[1]}, which is pushed away"
    if scene.motion == "beside":
        if variant:
            return f"{names[0]} on the left side and {names[1]} on the right side, both resting on the ground"
        return f"{names[0]} resting on the ground to the left of {names[1]}"
    return f"{names[0]} {ACTIONS[scene.motion][variant].format(d=direction)}"


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """The training-style caption of a scene: everything is named, in a fixed order.

    Args:
        scene: The scene.
        rng: Chooses among the few wordings of each part.

    Returns:
        Two sentences, 20 to 45 words.
    """
    opening = OPENINGS[int(rng.integers(len(OPENINGS)))]
    action = _action(scene, int(rng.integers(2)))
    place = BACKGROUND_PHRASES[scene.background][int(rng.integers(2))]
    closing = CLOSINGS["still" if scene.motion in ("rest", "beside") else "moving"]
    return f"{opening} {action}, {place}. {closing}"
