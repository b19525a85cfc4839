"""Constants of the lab world: what exists, how it looks, and how large it is.

Every number here is the lab's own choice. Lengths are pixels of a 64 x 64 frame, times are seconds, colours are
sRGB in 0..255. Nothing in this file depends on torch, so captions and prompts can be written without it.
"""

from __future__ import annotations

import math

FRAME_SIZE = 64
NUM_FRAMES = 17
FPS = 8
GROUND_Y = 52.0
"""Height (from the top) of the line that bodies stand on."""
GRAVITY = 110.0
"""Acceleration of falling and thrown bodies in px/s^2: a fall over half the frame takes 0.76 s."""
RESTITUTION = 0.75
"""Share of the speed that a bounce gives back."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 36, 40),
    "orange": (250, 140, 20),
    "yellow": (246, 224, 50),
    "green": (36, 172, 66),
    "cyan": (40, 205, 215),
    "blue": (48, 84, 224),
    "purple": (140, 56, 190),
    "pink": (246, 128, 190),
}

SIZES: dict[str, float] = {"small": 6.0, "medium": 8.25, "large": 11.25}
"""Radius of the disc that has the same area as the body; the smallest one still has corners on a grid of 4 px."""

BACKGROUNDS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "studio": ((172, 172, 172), (122, 122, 122)),
    "night": ((26, 29, 52), (48, 48, 66)),
    "snow": ((200, 216, 232), (244, 247, 250)),
    "desert": ((228, 210, 172), (198, 170, 124)),
    "meadow": ((178, 202, 190), (98, 126, 94)),
    "cellar": ((96, 76, 70), (66, 53, 48)),
}
"""Colour of the wall (or sky) and of the floor."""

# (up, down, sideways) reach of each shape from its centroid, in units of the equal-area radius.
_TRIANGLE = math.sqrt(math.pi / (3 * math.sqrt(3) / 4))
_SQUARE = math.sqrt(math.pi) / 2
_CROSS = math.sqrt(9 * math.pi / 5) / 2
SHAPES: dict[str, tuple[float, float, float]] = {
    "ball": (1.0, 1.0, 1.0),
    "square": (_SQUARE, _SQUARE, _SQUARE),
    "triangle": (_TRIANGLE, _TRIANGLE / 2, _TRIANGLE * math.sqrt(3) / 2),
    "cross": (_CROSS, _CROSS, _CROSS),
}

SINGLE_MOTIONS = ("fall", "roll", "slide", "rise", "sink", "swing", "throw", "rest", "circle", "bob", "shuttle")
DOUBLE_MOTIONS = ("collide", "beside")
MOTIONS = SINGLE_MOTIONS + DOUBLE_MOTIONS
DIRECTED_MOTIONS = ("roll", "slide", "throw", "collide")
DIRECTIONS = ("left_to_right", "right_to_left")

PHYS_LAWS: dict[str, str] = {
    "fall": "Gravity speeds a falling body up, and a bounce gives back only part of its height.",
    "roll": "Without friction a body keeps its velocity.",
    "slide": "Friction slows a sliding body until it stops.",
    "rise": "Buoyancy and drag in balance lift a light body at constant speed.",
    "sink": "Weight and drag in balance let a body descend at constant speed.",
    "swing": "A pendulum swings to and fro about its lowest point with a constant period.",
    "throw": "A thrown body follows a parabola: constant speed sideways, gravity downwards.",
    "rest": "A body at rest stays at rest while no force acts on it.",
    "circle": "A centripetal force keeps a body on a circle at constant speed.",
    "bob": "A floating body oscillates up and down about its balance.",
    "shuttle": "A spring drives a body to and fro about its balance.",
    "collide": "In a collision the moving body passes its momentum on to the resting one.",
    "beside": "Bodies at rest keep their distance while no force acts on them.",
}
"""One sentence per motion, given to the physics check of the loop."""
