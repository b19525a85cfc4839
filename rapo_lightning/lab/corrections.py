"""Training pairs for the loop's rewriter in the lab: a request with failed attempts, and the caption that answers it.

Requests are in training words (`degrade`, `user_prompts`). In some a telling phrase is replaced by an invented one, and in some a
word means another value than it says, so that nothing but the attempts and what was seen of them tells what is asked for. What a
rewriter has to do with a word that it does not know, or reads wrongly, is not to try again what was wrong, and to keep what was
right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..prompting.revision import Attempt, kept_attempts, revision_turn
from .captions import caption
from .changing import SECOND, options, with_value
from .degrade import UNKNOWN, degrade_caption
from .describing import FAULT_NAMES, description, missing
from .invented import with_invented
from .requests import asked
from .scene import Scene, sample_scene
from .user_prompts import user_prompt
from .world import DIRECTIONS

DEGRADED_SHARE = 0.3
"""Share of the requests that are made from a caption (`degrade`); the others are in the lab's users' words."""
INVENTED_SHARE = 0.35
"""Share of the requests in the lab's users' words that have one or two invented phrases."""
MISLEADING_SHARE = 0.8
"""Share of the other requests in the lab's users' words, of those with attempts, in which words mean other values. At a tenth
of all pairs a rewriter that is told that the motion is wrong writes the same motion in other words."""
MISLED_WEIGHTS = {"motion": 2.0, "size": 0.5, "size_2": 0.5, "direction": 0.0}
"""How often a key is the one that is read wrongly, beside 1 for the others."""
SECOND_SHARE = 0.25
"""Share of the misleading requests in which two keys are read wrongly."""
OVERLOOKED_SHARE = 0.5
"""Share of the requests made from a caption of which the attempts misread a word that can be known."""
UNFOUND_SHARE = 0.6
"""How often no attempt has found what is unclear."""
REPEATED_SHARE = 0.2
"""How often an attempt misses by the value of the one before it, as a rewriter that does not learn would."""
COPIED_SHARE = 0.3
"""How often a caption keeps an invented word, of which the video model makes what it will."""
RAW_SHARE = 0.1
"""How often the first attempt is the request itself, of which the video model makes something else."""
COUNTS = (0.1, 0.3, 0.2, 0.15, 0.15, 0.1)
"""Shares of pairs with no, one, ... attempts."""
SLIP_SHARE = 0.05
"""How often an attempt misses what the request plainly says."""
FAULT_SHARE = 0.3
"""Share of the attempts at the right scene whose video had a fault; the others get a slip."""
ERROR_SHARE = 0.04
"""How often the judge is wrong about an attribute."""
MOST = 5
"""Most attempts in a turn."""


@dataclass(frozen=True)
class Request:
    """A request with what its words hide.

    Attributes:
        text: The request.
        named: What it seems to name, by the keys of `requests.asked`.
        strange: By key the invented word in the place of one that was named.
        misread: By key the value that the request seems to name where it means another.
        overlooked: A key that the request tells and the attempts miss.
    """

    text: str
    named: Mapping[str, str]
    strange: Mapping[str, str] = field(default_factory=dict)
    misread: Mapping[str, str] = field(default_factory=dict)
    overlooked: str = ""

    @property
    def unclear(self) -> set[str]:
        """Keys that attempts have to find."""
        return {*self.strange, *self.misread, self.overlooked} - {""}


def _some_keys(scene: Scene, named: Mapping[str, str], count: int, rng: np.random.Generator) -> list[str]:
    """At most so many of the keys that a request names, drawn by `MISLED_WEIGHTS`."""
    keys = [key for key in named if named[key] == scene.attributes.get(key) and MISLED_WEIGHTS.get(key, 1.0)]
    weights = np.array([MISLED_WEIGHTS.get(key, 1.0) for key in keys])
    if not keys:
        return []
    return [str(key) for key in rng.choice(keys, min(len(keys), count), replace=False, p=weights / weights.sum())]


def _misled(scene: Scene, rng: np.random.Generator) -> Request:
    """A request in which one or two words mean another value than they say."""
    wording = int(rng.integers(2**31))
    named = asked(user_prompt(scene, np.random.default_rng(wording)))
    apparent, misread = scene, dict[str, str]()
    for key in _some_keys(scene, named, 2 if rng.random() < SECOND_SHARE else 1, rng):
        value = _wrong(scene, key, (), rng)
        if value:
            apparent, misread[key] = _changed(apparent, key, value, rng), value
    text = user_prompt(apparent, np.random.default_rng(wording))
    named = asked(text)
    return Request(text, named, misread={key: value for key, value in misread.items() if named.get(key) == value})


def draw_request(scene: Scene, rng: np.random.Generator, tried: bool = False) -> Request:
    """A request for a scene in the words of the lab's users, of which some are invented or misleading.

    Args:
        scene: What is asked for.
        rng: Chooses.
        tried: Whether attempts will tell what is asked for; without any no word means another value than it says.
    """
    if rng.random() < INVENTED_SHARE:
        text = user_prompt(scene, rng)
        changed, strange = with_invented(text, rng)
        return Request(changed, asked(text), strange)
    if tried and rng.random() < MISLEADING_SHARE:
        return _misled(scene, rng)
    text = user_prompt(scene, rng)
    return Request(text, asked(text))


def _changed(scene: Scene, key: str, value: str, rng: np.random.Generator) -> Scene:
    direction = (scene.direction or str(rng.choice(list(DIRECTIONS)))) if key == "motion" else ""
    return with_value(scene, key, value, direction)


def _wrong(scene: Scene, key: str, taken: Sequence[str], rng: np.random.Generator) -> str:
    """A value that is neither right nor taken; empty where none is left."""
    other = {body.colour for body in scene.bodies} if key.startswith("colour") else set[str]()
    left = [v for v in options(scene, key) if v != scene.attributes.get(key) and v not in (*taken, *other)]
    return left[int(rng.integers(len(left)))] if left else ""


def _found_at(request: Request, key: str, count: int, rng: np.random.Generator) -> int:
    """Number of the attempt from which on a key is right: 0 where the request tells it, `count` for never."""
    if key not in request.unclear:
        return 0
    # What is read wrongly is always tried as it reads first.
    first = int(key in request.misread)
    return count if count <= first or rng.random() < UNFOUND_SHARE else int(rng.integers(first, count))


def draw_attempts(scene: Scene, request: Request, rng: np.random.Generator, count: int) -> list[Attempt]:
    """Attempts at a scene, the oldest first: what is unclear is wrong until it is found, a slip now and then.

    Args:
        scene: What was asked for.
        request: In which words.
        rng: Chooses.
        count: How many.
    """
    keys = [key for key, value in request.named.items() if value != UNKNOWN and key in scene.attributes]
    found_at = {key: _found_at(request, key, count, rng) for key in keys}
    tried: dict[str, list[str]] = {key: [] for key in keys}
    attempts, wording = [], int(rng.integers(2**31))
    raw = int(count > 0 and rng.random() < RAW_SHARE)
    if raw:
        attempts.append(_attempt(scene, sample_scene(rng, "train"), keys, (), request.text, rng))
    for number in range(count - raw):
        missed = [key for key in keys if number < found_at[key] or rng.random() < SLIP_SHARE]
        faults: tuple[str, ...] = ()
        if not missed and keys:
            # An attempt that shows all that was asked for ends the loop, so what is tried again has failed in some way.
            if rng.random() < FAULT_SHARE:
                faults = (str(rng.choice(list(FAULT_NAMES))),)
            else:
                missed = [str(rng.choice(keys))]
        shown = _missing(scene, missed, tried, rng, {} if number else request.misread)
        shown_as = int(rng.integers(2**31)) if rng.random() < 0.5 else wording
        copied = {key: word for key, word in request.strange.items() if key in missed and rng.random() < COPIED_SHARE}
        attempts.append(_attempt(scene, shown, keys, faults, _copied(shown, shown_as, copied), rng))
    return attempts


def _missing(
    scene: Scene,
    missed: Sequence[str],
    tried: dict[str, list[str]],
    rng: np.random.Generator,
    first: Mapping[str, str],
) -> Scene:
    """The scene with a wrong value for each key, mostly one that was not tried; `tried` is added to."""
    for key in missed:
        again = tried[key][-1] if tried[key] and rng.random() < REPEATED_SHARE else ""
        value = first.get(key) or again or _wrong(scene, key, tried[key], rng)
        if value and (key != "direction" or scene.direction):
            tried[key].append(value)
            scene = _changed(scene, key, value, rng)
    return scene


def _copied(shown: Scene, wording: int, words: Mapping[str, str]) -> str:
    """A caption of a scene in which words of the request stand for a colour or a shape."""
    text = caption(shown, np.random.default_rng(wording))
    for key, word in words.items():
        if key.removesuffix(SECOND) in {"colour", "shape"}:
            text = re.sub(rf"\b{shown.attributes[key]}\b", word, text, count=1)
    return text


def _attempt(
    scene: Scene, shown: Scene, keys: Sequence[str], faults: Sequence[str], text: str, rng: np.random.Generator
) -> Attempt:
    """The attempt that showed another scene, as a judge that sometimes errs sees it."""
    seen = shown.attributes
    right = {key: seen.get(key) == scene.attributes[key] for key in keys}
    said = {key: value != (rng.random() < ERROR_SHARE) for key, value in right.items()}
    score = sum(right.values()) / max(1, len(right)) * (0.5 if faults else 1.0)
    return Attempt(text, f"{description(seen, faults)} {missing(said, faults)}", score)


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
        keys = _some_keys(scene, made.named, int(rng.random() < OVERLOOKED_SHARE), rng)
        request, answer = Request(made.request, made.named, overlooked="".join(keys)), made.answer
    else:
        request, answer = draw_request(scene, rng, count > 0), caption(scene, rng)
    attempts = draw_attempts(scene, request, rng, count)
    return revision_turn(request.text, kept_attempts(attempts, MOST)), answer
