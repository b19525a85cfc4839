"""The lab's oracle: what a video shows, read from its frames alone, and how much of a user's prompt that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .laws import direction_of, recognize_law
from .lexicon import asked
from .tracking import Track, track_bodies

_MOTION_WORDS = {
    "fall": "dropping and bouncing",
    "roll": "rolling at a constant speed",
    "slide": "sliding to a halt",
    "rise": "rising",
    "sink": "sinking",
    "swing": "swinging on a thread",
    "throw": "thrown in an arc",
    "rest": "resting motionless",
    "circle": "circling",
    "bob": "bobbing up and down",
    "shuttle": "shuttling left and right",
    "collide": "the first colliding with the second",
    "beside": "resting side by side, the first on the left",
}
_PLACE_WORDS = {
    "studio": "a grey studio",
    "night": "a dark night sky",
    "snow": "a snowy landscape",
    "desert": "a sandy desert",
    "meadow": "a green meadow",
    "cellar": "a brown cellar",
}


@dataclass(frozen=True)
class Reading:
    """What the oracle saw.

    Attributes:
        attributes: `shape, colour, size, background, motion, direction` and, with a second body, `shape_2, colour_2,
            size_2`; keys that were not seen are missing.
        residual: Distance in px (root mean square) between the body's track and the law it was recognized by.
    """

    attributes: dict[str, str]
    residual: float


@dataclass(frozen=True)
class Verdict:
    """The oracle's judgement of a video against a prompt.

    Attributes:
        score: Share of the asked attributes that the video shows, 0..1.
        critique: A sentence for each asked attribute that is missing, empty if none is.
        right: For each asked attribute whether it is shown.
    """

    score: float
    critique: str
    right: dict[str, bool]


def _mean_x(track: Track) -> float:
    return float(np.nanmean(track.centres[:, 0]))


def _travel(track: Track) -> float:
    return float(np.nanmax(track.centres[:, 0]) - np.nanmin(track.centres[:, 0]))


def _first_to_move(track: Track) -> float:
    """Frame from which a body has left its first place by 3 px, or the number of frames."""
    x = track.centres[:, 0]
    start = x[np.isfinite(x)][0]
    moved = np.flatnonzero(np.abs(np.nan_to_num(x, nan=start) - start) > 3)
    return float(moved[0]) if len(moved) else float(len(x))


def _pair(tracks: list[Track]) -> tuple[list[Track], str, str, float]:
    """Orders two bodies by the law they share: beside (left first) or collide (the one that moves first)."""
    if max(_travel(track) for track in tracks) < 4:
        ordered = sorted(tracks, key=_mean_x)
        return ordered, "beside", "", 0.0
    ordered = sorted(tracks, key=_first_to_move)
    both_move = all(_travel(track) > 4 for track in ordered)
    if not both_move or _first_to_move(ordered[0]) == _first_to_move(ordered[1]):
        return ordered, "", "", float("inf")
    x = ordered[0].centres[:, 0]
    x = x[np.isfinite(x)]
    return ordered, "collide", "left_to_right" if x[-1] > x[0] else "right_to_left", 0.0


def read_video(frames: NDArray[np.float32]) -> Reading:
    """Reads everything the oracle knows from a video.

    Args:
        frames: RGB in 0..1, shape `(frames, 64, 64, 3)`.
    """
    background, tracks = track_bodies(frames)
    found = {"background": background}
    if not tracks:
        return Reading(found, float("inf"))
    if len(tracks) == 2:
        tracks, motion, direction, residual = _pair(tracks)
    else:
        motion, residual = recognize_law(tracks[0].centres)
        direction = direction_of(tracks[0].centres, motion)
    for suffix, track in zip(("", "_2"), tracks, strict=False):
        found |= {f"shape{suffix}": track.shape, f"colour{suffix}": track.colour, f"size{suffix}": track.size}
    found |= {"motion": motion, "direction": direction}
    return Reading({key: value for key, value in found.items() if value}, residual)


def remark(key: str, value: str) -> str:
    """One sentence on an attribute that is missing; the same sentence in every round, so that a loop can collect them."""
    words = _MOTION_WORDS.get(value, value) if key == "motion" else _PLACE_WORDS.get(value, value).replace("_", " ")
    name = f"second {key.removesuffix('_2')}" if key.endswith("_2") else key
    return f"The {name} should be {words}."


def judge(prompt: str, frames: NDArray[np.float32]) -> Verdict:
    """Scores a video against what a user's prompt names.

    Args:
        prompt: The user's prompt.
        frames: RGB in 0..1, shape `(frames, 64, 64, 3)`.

    Returns:
        The verdict. A prompt that names nothing the lab knows scores 0 and says so.
    """
    wanted = asked(prompt)
    if not wanted:
        return Verdict(0.0, "The prompt names nothing that the lab world has.", {})
    seen = read_video(frames).attributes
    right = {key: seen.get(key) == value for key, value in wanted.items()}
    critique = " ".join(remark(key, value) for key, value in wanted.items() if not right[key])
    return Verdict(sum(right.values()) / len(right), critique, right)


def judge_bytes(task: tuple[str, NDArray[np.uint8]]) -> tuple[float, str]:
    """Score and critique of (prompt, 8-bit frames); at module level, so that worker processes can import it cheaply."""
    prompt, frames = task
    verdict = judge(prompt, (frames / 255).astype(np.float32))
    return verdict.score, verdict.critique
