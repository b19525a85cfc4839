"""The words of the lab's users: synonyms for everything in a scene, and the way back from words to attributes.

Each entry lists wordings that `user_prompts` may use in the training split, then, after the bar, wordings kept for
the held-out split. None of the nouns and verbs here occurs in the training captions except a few plain names
(`red`, `ball`) that nobody would avoid.
"""

from __future__ import annotations

import re

from .world import DIRECTED_MOTIONS

Wordings = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]

COLOUR_WORDS: Wordings = {
    "red": (("red", "crimson", "ruby"), ("scarlet",)),
    "orange": (("orange", "tangerine"), ("amber",)),
    "yellow": (("yellow", "golden"), ("lemon",)),
    "green": (("green", "emerald"), ("lime",)),
    "cyan": (("cyan", "turquoise"), ("aqua",)),
    "blue": (("blue", "navy"), ("cobalt",)),
    "purple": (("purple", "violet"), ("lavender",)),
    "pink": (("pink", "rose"), ("magenta",)),
}
SHAPE_WORDS: Wordings = {
    "ball": (("ball", "sphere", "globe"), ("orb",)),
    "square": (("box", "cube", "block"), ("crate",)),
    "triangle": (("triangle", "pyramid"), ("wedge",)),
    "cross": (("plus sign", "plus"), ("plus shape",)),
}
SIZE_WORDS: Wordings = {
    "small": (("tiny", "little"), ("mini",)),
    "medium": (("mid-size", "normal-sized"), ("average",)),
    "large": (("big", "huge"), ("giant",)),
}
BACKGROUND_WORDS: Wordings = {
    "studio": (("plain gray backdrop", "gray room"), ("empty gray set",)),
    "night": (("at midnight", "in the dark"), ("after sunset",)),
    "snow": (("in winter", "on ice"), ("in a blizzard land",)),
    "desert": (("on the dunes", "in the sahara"), ("on a beach",)),
    "meadow": (("on a lawn", "in a park"), ("in a pasture",)),
    "cellar": (("in a basement", "in a dungeon"), ("in a cave",)),
}
# Verb phrases after the noun. "{d}" takes a direction, which may be left out.
MOTION_WORDS: Wordings = {
    "fall": (
        ("falling down", "that falls and hops", "plunging to the floor", "dribbling", "falls and rebounds"),
        ("tumbling down and springing back", "being dropped"),
    ),
    "roll": (
        ("moving along the floor {d}", "going across {d}", "traveling {d}", "crossing the screen {d}"),
        ("passing by {d}", "running over the floor {d}"),
    ),
    "slide": (
        ("skidding to a stop {d}", "gliding {d} then stopping", "that brakes {d}", "slows down and stops {d}"),
        ("losing speed {d}", "coming to a standstill {d}"),
    ),
    "rise": (
        ("going up", "floating upward like a balloon", "lifting off", "ascending"),
        ("climbing into the air", "drifting skyward"),
    ),
    "sink": (
        ("gently descending", "slowly lowering", "settling down like a feather", "going down slowly"),
        ("easing downward", "landing softly like a leaf"),
    ),
    "swing": (
        ("hanging on a string and swaying", "swaying on a rope", "dangling from a cord", "swaying like a clock weight"),
        ("on a rope going side to side", "hung up and rocking"),
    ),
    "throw": (
        ("tossed {d}", "being lobbed {d}", "hurled through the air {d}", "flung {d}"),
        ("launched {d} like a cannonball", "pitched {d}"),
    ),
    "rest": (
        ("just sitting there", "lying on the floor", "standing still", "that does nothing"),
        ("not moving at all", "parked on the floor"),
    ),
    "circle": (
        ("orbiting", "going round and round", "looping around", "revolving like a planet"),
        ("moving in rings", "whirling about a center"),
    ),
    "bob": (
        (
            "hovering and wobbling up and down",
            "floating like a buoy",
            "levitating up and down",
            "hovering like a drone",
        ),
        ("drifting high and low again and again", "floating like a cork on waves"),
    ),
    "shuttle": (
        ("going to and fro on the floor", "jiggling sideways", "moving side to side on a spring", "shaking left-right"),
        ("jolting on a spring hither and thither", "vibrating sideways"),
    ),
}
DIRECTION_WORDS: Wordings = {
    "left_to_right": (("to the right", "rightward"), ("toward the right edge",)),
    "right_to_left": (("to the left", "leftward"), ("toward the left edge",)),
}
COLLIDE_WORDS = (
    ("{a} crashing into {b} {d}", "{a} hits {b} {d}", "{a} bumping into {b} {d}", "{a} knocks {b} away {d}"),
    ("{a} smashing against {b} {d}", "{a} ramming {b} {d}"),
)
BESIDE_WORDS = (
    ("{a} just left of {b}", "{a} left of {b}", "{a}, and right of it {b}", "{b} right of {a}"),
    ("{a} with {b} at its right", "{b} standing to the right of {a}"),
)


_Patterns = list[tuple[re.Pattern[str], str]]


def _patterns(words: Wordings) -> _Patterns:
    pairs = [(phrase, name) for name, splits in words.items() for phrases in splits for phrase in phrases]
    # Longer phrases first, so that "plus sign" is found before "plus".
    pairs.sort(key=lambda pair: -len(pair[0]))
    compiled = []
    for phrase, name in pairs:
        # Where a direction may stand, up to four words are skipped.
        text = r"(?:\s+\S+){0,4}?\s+".join(re.escape(part.strip()) for part in phrase.split("{d}") if part.strip())
        compiled.append((re.compile(rf"(?<![\w-]){text}(?![\w-])", re.IGNORECASE), name))
    return compiled


def _with_caption_words(words: Wordings, extra: dict[str, str]) -> Wordings:
    """Wordings that are read, though the lab's users never write them: the captions' own."""
    return {name: ((*train, *filter(None, [extra.get(name)])), heldout) for name, (train, heldout) in words.items()}


_SHAPE_PATTERNS = _patterns(_with_caption_words(SHAPE_WORDS, {"square": "square", "cross": "cross"}))
_SIZE_PATTERNS = _patterns(
    _with_caption_words(SIZE_WORDS, {"small": "small", "medium": "medium-sized", "large": "large"})
)
_COLOUR_PATTERNS = _patterns(COLOUR_WORDS)
_BACKGROUND_PATTERNS, _DIRECTION_PATTERNS = _patterns(BACKGROUND_WORDS), _patterns(DIRECTION_WORDS)
_MOTION_PATTERNS = _patterns(MOTION_WORDS)
_COLLIDE = re.compile(r"crash|\bhits\b|bump|knock|smash|ramming|collid", re.IGNORECASE)
_REVERSED = re.compile(r"right of (?!it\b)", re.IGNORECASE)


def _first(patterns: _Patterns, text: str) -> str:
    return next((name for pattern, name in patterns if pattern.search(text)), "")


def _mentions(text: str) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    for pattern, name in _SHAPE_PATTERNS:
        for match in pattern.finditer(text):
            if all(match.end() <= start or match.start() >= end for start, end, _ in found):
                found.append((match.start(), match.end(), name))
    return sorted(found)


def asked(prompt: str) -> dict[str, str]:
    """What a user's prompt names, read with the lab's own vocabulary.

    Args:
        prompt: A prompt, of the lab's users or typed by hand.

    Returns:
        Those of `shape, colour, size, shape_2, colour_2, size_2, background, motion, direction` that the prompt names.
        Body 2 is the one on the right (`beside`) or the one that is hit (`collide`).
    """
    mentions = _mentions(prompt)[:2]
    wanted: dict[str, str] = {}
    begin = 0
    bodies = []
    for start, end, shape in mentions:
        words = prompt[begin:start]
        bodies.append(
            {"shape": shape, "colour": _first(_COLOUR_PATTERNS, words), "size": _first(_SIZE_PATTERNS, words)}
        )
        begin = end
    double = len(bodies) == 2
    if double:
        wanted["motion"] = "collide" if _COLLIDE.search(prompt) else "beside"
        if wanted["motion"] == "beside" and _REVERSED.search(prompt):
            bodies.reverse()
    else:
        wanted["motion"] = _first(_MOTION_PATTERNS, prompt)
    for suffix, body in zip(("", "_2"), bodies, strict=False):
        wanted.update({f"{key}{suffix}": value for key, value in body.items()})
    wanted["background"] = _first(_BACKGROUND_PATTERNS, prompt)
    if wanted["motion"] in DIRECTED_MOTIONS:
        wanted["direction"] = _first(_DIRECTION_PATTERNS, prompt)
    return {key: value for key, value in wanted.items() if value}


def wordings(prompt: str) -> dict[str, str]:
    """The words by which a user's prompt names each attribute of `asked`."""
    patterns = {
        "shape": _SHAPE_PATTERNS, "colour": _COLOUR_PATTERNS, "size": _SIZE_PATTERNS,
        "background": _BACKGROUND_PATTERNS, "direction": _DIRECTION_PATTERNS, "motion": _MOTION_PATTERNS,
    }  # fmt: skip
    found = {}
    for key, value in asked(prompt).items():
        named = [pattern for pattern, name in patterns[key.removesuffix("_2")] if name == value]
        matches = [match[0] for pattern in named if (match := pattern.search(prompt))]
        if value == "collide":
            matches = [match[0] for match in [_COLLIDE.search(prompt)] if match]
        elif value == "beside":
            matches = re.findall(r"\bleft\b|\bright\b", prompt)
        if matches:
            found[key] = matches[0]
    return found
