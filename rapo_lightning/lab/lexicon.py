"""The words of the lab's users: synonyms for everything in a scene; `requests` reads them back.

Each entry lists wordings that `user_prompts` may use in the training split, then wordings kept for the held-out split, by
which arms are compared, then wordings for validation, by which settings of a training are chosen. None of the nouns and
verbs here occurs in the training captions except a few plain names (`red`, `ball`) that nobody would avoid.
"""

from __future__ import annotations

Wordings = dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]
SPLITS = ("train", "heldout", "validation")
"""The wordings of an entry in their order."""

COLOUR_WORDS: Wordings = {
    "red": (("red", "crimson", "ruby"), ("scarlet",), ("garnet",)),
    "orange": (("orange", "tangerine"), ("amber",), ("marmalade",)),
    "yellow": (("yellow", "golden"), ("lemon",), ("honey",)),
    "green": (("green", "emerald"), ("lime",), ("pistachio",)),
    "cyan": (("cyan", "turquoise"), ("aqua",), ("caribbean",)),
    "blue": (("blue", "navy"), ("cobalt",), ("lapis",)),
    "purple": (("purple", "violet"), ("lavender",), ("mulberry",)),
    "pink": (("pink", "rose"), ("magenta",), ("candyfloss",)),
}
SHAPE_WORDS: Wordings = {
    "ball": (("ball", "sphere", "globe"), ("orb",), ("pellet",)),
    "square": (("box", "cube", "block"), ("crate",), ("cuboid",)),
    "triangle": (("triangle", "pyramid"), ("wedge",), ("tepee",)),
    "cross": (("plus sign", "plus"), ("plus shape",), ("plus icon",)),
}
SIZE_WORDS: Wordings = {
    "small": (("tiny", "little"), ("mini",), ("diminutive",)),
    "medium": (("mid-size", "normal-sized"), ("average",), ("moderate",)),
    "large": (("big", "huge"), ("giant",), ("colossal",)),
}
BACKGROUND_WORDS: Wordings = {
    "studio": (("plain gray backdrop", "gray room"), ("empty gray set",), ("in a grey hall",)),
    "night": (("at midnight", "in the dark"), ("after sunset",), ("before sunrise",)),
    "snow": (("in winter", "on ice"), ("in a blizzard land",), ("in siberia",)),
    "desert": (("on the dunes", "in the sahara"), ("on a beach",), ("in the outback",)),
    "meadow": (("on a lawn", "in a park"), ("in a pasture",), ("in a paddock",)),
    "cellar": (("in a basement", "in a dungeon"), ("in a cave",), ("in a catacomb",)),
}
# Verb phrases after the noun. "{d}" takes a direction, which may be left out.
MOTION_WORDS: Wordings = {
    "fall": (
        ("falling down", "that falls and hops", "plunging to the floor", "dribbling", "falls and rebounds"),
        ("tumbling down and springing back", "being dropped"),
        ("toppling to the floor and recoiling", "that hits the ground from high up and recoils"),
    ),
    "roll": (
        ("moving along the floor {d}", "going across {d}", "traveling {d}", "crossing the screen {d}"),
        ("passing by {d}", "running over the floor {d}"),
        ("trundling {d}", "proceeding {d} over the ground"),
    ),
    "slide": (
        ("skidding to a stop {d}", "gliding {d} then stopping", "that brakes {d}", "slows down and stops {d}"),
        ("losing speed {d}", "coming to a standstill {d}"),
        ("coasting {d} until its momentum is gone", "grating {d} until it sticks"),
    ),
    "rise": (
        ("going up", "floating upward like a balloon", "lifting off", "ascending"),
        ("climbing into the air", "drifting skyward"),
        ("hoisted up", "mounting towards the ceiling"),
    ),
    "sink": (
        ("gently descending", "slowly lowering", "settling down like a feather", "going down slowly"),
        ("easing downward", "landing softly like a leaf"),
        ("subsiding softly", "coming down as slowly as dust"),
    ),
    "swing": (
        ("hanging on a string and swaying", "swaying on a rope", "dangling from a cord", "swaying like a clock weight"),
        ("on a rope going side to side", "hung up and rocking"),
        ("pendulating below a hook", "roped up and undulating sideways"),
    ),
    "throw": (
        ("tossed {d}", "being lobbed {d}", "hurled through the air {d}", "flung {d}"),
        ("launched {d} like a cannonball", "pitched {d}"),
        ("pelted {d}", "swatted {d} in a high bow"),
    ),
    "rest": (
        ("just sitting there", "lying on the floor", "standing still", "that does nothing"),
        ("not moving at all", "parked on the floor"),
        ("remaining where it is", "left alone on the ground"),
    ),
    "circle": (
        ("orbiting", "going round and round", "looping around", "revolving like a planet"),
        ("moving in rings", "whirling about a center"),
        ("gyrating round a mast", "doing laps"),
    ),
    "bob": (
        (
            "hovering and wobbling up and down",
            "floating like a buoy",
            "levitating up and down",
            "hovering like a drone",
        ),
        ("drifting high and low again and again", "floating like a cork on waves"),
        ("undulating in the air", "lifting and dipping over and over"),
    ),
    "shuttle": (
        ("going to and fro on the floor", "jiggling sideways", "moving side to side on a spring", "shaking left-right"),
        ("jolting on a spring hither and thither", "vibrating sideways"),
        ("zigzagging about one spot", "twitching from side to side"),
    ),
}
DIRECTION_WORDS: Wordings = {
    "left_to_right": (("to the right", "rightward"), ("toward the right edge",), ("towards the right border",)),
    "right_to_left": (("to the left", "leftward"), ("toward the left edge",), ("towards the left border",)),
}
COLLIDE_WORDS = (
    ("{a} crashing into {b} {d}", "{a} hits {b} {d}", "{a} bumping into {b} {d}", "{a} knocks {b} away {d}"),
    ("{a} smashing against {b} {d}", "{a} ramming {b} {d}"),
    ("{a} barging into {b} {d}", "{a} rear-ending {b} {d}"),
)
BESIDE_WORDS = (
    ("{a} just left of {b}", "{a} left of {b}", "{a}, and right of it {b}", "{b} right of {a}"),
    ("{a} with {b} at its right", "{b} standing to the right of {a}"),
    ("{a} with {b} on its right flank", "{b} to the right hand of {a}"),
)
