"""Training pairs for the loop's rewriter in the lab: a request with failed attempts, and the caption that answers it.

Requests are in training words (`degrade`, `user_prompts`). In some a telling phrase is replaced by an invented one, and in some a
word means another value than it says, so that nothing but the attempts and what was seen of them tells what is asked for. What a
rewriter has to do with a word that it does not know, or reads wrongly, is not to try again what was wrong, and to keep what was
right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ..prompting.revision import Attempt, kept_attempts, revision_turn
from .captions import caption
from .changing import options, with_value
from .degrade import UNKNOWN, degrade_caption
from .describing import FAULT_NAMES, description, missing
from .requests import asked, wordings
from .scene import Scene, sample_scene
from .user_prompts import user_prompt
from .world import DIRECTIONS

DEGRADED_SHARE = 0.35
"""Share of the requests that are made from a caption (`degrade`); the others are in the lab's users' words."""
INVENTED_SHARE = 0.5
"""Share of the requests in the lab's users' words that have one or two invented phrases."""
MISLEADING_SHARE = 0.5
"""Share of the other requests in the lab's users' words, of those with attempts, in which a word means another value."""
COUNTS = (0.15, 0.35, 0.2, 0.15, 0.15)
"""Shares of pairs with no, one, ... attempts."""
SLIP_SHARE = 0.05
"""How often an attempt misses what the request plainly says."""
FAULT_SHARE = 0.3
"""Share of the attempts at the right scene whose video had a fault; the others get a slip."""
ERROR_SHARE = 0.04
"""How often the judge is wrong about an attribute."""
MOST = 4
"""Most attempts in a turn."""
_ONSETS = [
    "b",
    "d",
    "f",
    "g",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "z",
    "br",
    "cl",
    "dr",
    "fl",
    "gr",
    "pl",
    "st",
    "tr",
]
_VOWELS, _ENDS = ["a", "e", "i", "o", "u", "ai", "ou"], ["n", "l", "r", "m", "sk", "t"]


def invented(rng: np.random.Generator, verb: bool = False) -> str:
    """A word that means nothing."""

    def pick(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    stem = "".join(pick(_ONSETS) + pick(_VOWELS) for _ in range(int(rng.integers(1, 3)))) + pick(_ENDS)
    return f"{stem}ing" if verb else stem


def _with_invented(text: str, rng: np.random.Generator) -> tuple[str, list[str]]:
    """A request with one or two of its telling phrases replaced, and the keys of what they named."""
    told = wordings(text)
    keys = [str(key) for key in rng.permutation(sorted(key for key in told if told[key] in text))]
    replaced: list[str] = []
    for key in keys[: int(rng.integers(1, 3))]:
        word = invented(rng, verb=key == "motion")
        changed = re.sub(rf"(?<![\w-]){re.escape(told[key])}(?![\w-])", word, text, count=1)
        if changed != text:
            text, replaced = changed, [*replaced, key]
    return text, replaced


def draw_request(
    scene: Scene, rng: np.random.Generator, tried: bool = False
) -> tuple[str, dict[str, str], list[str], dict[str, str]]:
    """A request for a scene: its text, what it names, the keys that only attempts can tell, and how these read wrongly.

    Args:
        scene: What is asked for.
        rng: Chooses.
        tried: Whether attempts will tell what is asked for; without any no word means another value than it says.
    """
    unclear: list[str] = []
    if rng.random() < INVENTED_SHARE:
        text = user_prompt(scene, rng)
        named = asked(text)
        text, unclear = _with_invented(text, rng)
        return text, named, unclear, {}
    apparent, misread = scene, dict[str, str]()
    if tried and rng.random() < MISLEADING_SHARE:
        key = str(rng.choice([key for key in scene.attributes if key != "direction"]))
        value = _wrong(scene, key, (), rng)
        if value:
            apparent, misread = _changed(scene, key, value, rng), {key: value}
    text = user_prompt(apparent, rng)
    named = asked(text)
    misread = {key: value for key, value in misread.items() if key in named}
    return text, named, list(misread), misread


def _changed(scene: Scene, key: str, value: str, rng: np.random.Generator) -> Scene:
    direction = (scene.direction or str(rng.choice(list(DIRECTIONS)))) if key == "motion" else ""
    return with_value(scene, key, value, direction)


def _wrong(scene: Scene, key: str, taken: Sequence[str], rng: np.random.Generator) -> str:
    """A value that is neither right nor taken; empty where none is left."""
    other = {body.colour for body in scene.bodies} if key.startswith("colour") else set[str]()
    left = [v for v in options(scene, key) if v != scene.attributes.get(key) and v not in (*taken, *other)]
    return left[int(rng.integers(len(left)))] if left else ""


def draw_attempts(
    scene: Scene,
    named: dict[str, str],
    unclear: Sequence[str],
    rng: np.random.Generator,
    count: int,
    misread: Mapping[str, str] | None = None,
) -> list[Attempt]:
    """Attempts at a scene, the oldest first: what is unclear is wrong until it is found, a slip now and then.

    Args:
        scene: What was asked for.
        named: What the request names.
        unclear: Keys that the request does not tell plainly.
        rng: Chooses.
        count: How many.
        misread: Of the unclear keys the values that the request seems to say, which are tried first.
    """
    misread = misread or {}
    keys = [key for key in named if named[key] != UNKNOWN and key in scene.attributes]
    found_at = {key: int(rng.integers(key in misread, count + 2)) if key in unclear else 0 for key in keys}
    tried: dict[str, list[str]] = {key: [] for key in keys}
    attempts, wording = [], int(rng.integers(2**31))
    for number in range(count):
        missed = [key for key in keys if number < found_at[key] or rng.random() < SLIP_SHARE]
        faults: tuple[str, ...] = ()
        if not missed and keys:
            # An attempt that shows all that was asked for ends the loop, so what is tried again has failed in some way.
            if rng.random() < FAULT_SHARE:
                faults = (str(rng.choice(list(FAULT_NAMES))),)
            else:
                missed = [str(rng.choice(keys))]
        shown = _missing(scene, missed, tried, rng, {} if number else misread)
        shown_as = int(rng.integers(2**31)) if rng.random() < 0.5 else wording
        attempts.append(_attempt(scene, shown, keys, faults, shown_as, rng))
    return attempts


def _missing(
    scene: Scene,
    missed: Sequence[str],
    tried: dict[str, list[str]],
    rng: np.random.Generator,
    first: Mapping[str, str],
) -> Scene:
    """The scene with a wrong value for each key, none of them a second time; `tried` is added to."""
    for key in missed:
        value = first.get(key) or _wrong(scene, key, tried[key], rng)
        if value and (key != "direction" or scene.direction):
            tried[key].append(value)
            scene = _changed(scene, key, value, rng)
    return scene


def _attempt(
    scene: Scene, shown: Scene, keys: Sequence[str], faults: Sequence[str], wording: int, rng: np.random.Generator
) -> Attempt:
    """The attempt that showed another scene, as a judge that sometimes errs sees it."""
    seen = shown.attributes
    right = {key: seen.get(key) == scene.attributes[key] for key in keys}
    said = {key: value != (rng.random() < ERROR_SHARE) for key, value in right.items()}
    score = sum(right.values()) / max(1, len(right)) * (0.5 if faults else 1.0)
    critique = f"{description(seen, faults)} {missing(said, faults)}"
    return Attempt(caption(shown, np.random.default_rng(wording)), critique, score)


def correction_pair(seed: int) -> tuple[str, str]:
    """The user's turn and the caption that answers it.

    Args:
        seed: Decides everything.
    """
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, "train")
    count = int(rng.choice(len(COUNTS), p=COUNTS))
    if rng.random() < DEGRADED_SHARE:
        made = degrade_caption(caption(scene, rng), scene, rng)
        attempts = draw_attempts(scene, made.named, [], rng, count)
        return revision_turn(made.request, kept_attempts(attempts, MOST)), made.answer
    text, named, unclear, misread = draw_request(scene, rng, count > 0)
    attempts = draw_attempts(scene, named, unclear, rng, count, misread)
    return revision_turn(text, kept_attempts(attempts, MOST)), caption(scene, rng)
