"""The oracle's sentences on what is missing: what was seen in plain words, what was asked for in the user's own."""

from __future__ import annotations

_SEEN: dict[str, dict[str, str]] = {
    "motion": {
        "fall": "a body dropping and bouncing",
        "roll": "a body rolling at an even speed",
        "slide": "a body sliding to a halt",
        "rise": "a body rising",
        "sink": "a body sinking",
        "swing": "a body swinging on a thread",
        "throw": "a body thrown in an arc",
        "rest": "a body at rest",
        "circle": "a body circling",
        "bob": "a body bobbing up and down",
        "shuttle": "a body shuttling left and right",
        "collide": "a body colliding with another",
        "beside": "two bodies side by side",
        "": "a motion of no known law",
    },
    "background": {
        "studio": "a grey studio",
        "night": "a dark night",
        "snow": "a snowy landscape",
        "desert": "a sandy desert",
        "meadow": "a green meadow",
        "cellar": "a brown cellar",
        "": "no steady place",
    },
    "direction": {
        "left_to_right": "a body going from left to right",
        "right_to_left": "a body going from right to left",
        "": "no steady direction",
    },
    "shape": {"": "no steady shape"},
    "colour": {"": "no steady colour"},
    "size": {"": "no steady size"},
}


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _seen_words(key: str, value: str) -> str:
    plain, second = key.removesuffix("_2"), "second " if key.endswith("_2") else ""
    if value in _SEEN[plain]:
        return _SEEN[plain][value] + (" of the second body" if second else "")
    return _article(f"{second}{value}" if plain == "shape" else f"{value} {second}body")


def remark(key: str, seen: str, wording: str) -> str:
    """One sentence on an attribute that is missing.

    It never says what was asked for in the captions' words, which would hand the rewriter the answer. The same sentence
    is said in every round in which the same is seen, so that a loop can collect them.

    Args:
        key: Key of `requests.asked`.
        seen: The value that was read from the frames, empty if none.
        wording: The user's own words for what was asked.
    """
    return f"The video shows {_seen_words(key, seen)}; asked for was {wording}."
