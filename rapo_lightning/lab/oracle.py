"""The lab's oracle: what a video shows, read from its frames alone, and how much of a user's prompt that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .laws import LIMIT, collision_residual, direction_of, recognize_law
from .remarks import remark
from .requests import asked, refusal, wordings
from .steadiness import FAULTS, colour_of, find_faults, shape_of, size_of, steady
from .tracking import Track, observe

FAULT_FACTOR = 0.5
"""What a fault leaves of the score, the lab's own choice: a broken video never earns more than half."""
NOT_UNDERSTOOD = "The lab does not understand this request: {}"


@dataclass(frozen=True)
class Reading:
    """What the oracle saw.

    Attributes:
        attributes: `shape, colour, size, background, motion, direction` and, with a second body, `shape_2, colour_2,
            size_2`; keys of what was not seen, or did not hold over the frames, are missing.
        residual: Distance in px (root mean square) between the body's track and the law it was recognized by.
        bodies: Number of bodies.
        faults: Keys of `steadiness.FAULTS` for what is wrong with the video, whatever was asked for.
    """

    attributes: dict[str, str]
    residual: float
    bodies: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """The oracle's judgement of a video against a prompt.

    Attributes:
        score: Share of the asked attributes that the video shows, 0..1, times `FAULT_FACTOR` if the video has a fault;
            None for a request that the lab does not understand.
        critique: A sentence for each asked attribute that is missing and for each fault, empty if there is none; why
            there is no score, if there is none.
        right: For each asked attribute whether it is shown.
        faults: Keys of `steadiness.FAULTS`.
    """

    score: float | None
    critique: str
    right: dict[str, bool]
    faults: tuple[str, ...] = ()


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
    laws = [recognize_law(track.centres) for track in tracks]
    if all(law == "rest" for law, _ in laws):
        return sorted(tracks, key=_mean_x), "beside", "", max(residual for _, residual in laws)
    ordered = sorted(tracks, key=_first_to_move)
    residual = collision_residual(ordered[0].centres, ordered[1].centres)
    if residual > LIMIT:
        return ordered, "", "", float("inf")
    x = ordered[0].centres[ordered[0].seen, 0]
    return ordered, "collide", "left_to_right" if x[-1] > x[0] else "right_to_left", residual


def read_video(frames: NDArray[np.float32]) -> Reading:
    """Reads everything the oracle knows from a video.

    Args:
        frames: RGB in 0..1, shape `(frames, 64, 64, 3)`.
    """
    seen = observe(frames)
    tracks, faults, found = seen.tracks, find_faults(seen), {"background": steady(seen.backgrounds)}
    motion, direction, residual = "", "", float("inf")
    if len(tracks) == 2:
        tracks, motion, direction, residual = _pair(tracks)
    elif tracks:
        motion, residual = recognize_law(tracks[0].centres)
        direction = direction_of(tracks[0].centres, motion)
    for suffix, track in zip(("", "_2"), tracks, strict=False):
        found |= {
            f"shape{suffix}": shape_of(track),
            f"colour{suffix}": colour_of(track),
            f"size{suffix}": size_of(track),
        }
    found |= {"motion": motion, "direction": direction}
    return Reading({key: value for key, value in found.items() if value}, residual, len(tracks), faults)


def _faults(reading: Reading, wanted: dict[str, str]) -> tuple[str, ...]:
    """The video's own faults, and those that depend on what was asked for."""
    faults = list(reading.faults)
    if reading.bodies == 2 and "shape_2" not in wanted and "extra" not in faults:
        faults.append("extra")
    moving = wanted.get("motion") not in (None, "rest", "beside")
    if moving and reading.attributes.get("motion") in ("rest", "beside"):
        faults.append("still")
    return tuple(faults)


def compare(reading: Reading, wanted: dict[str, str]) -> tuple[dict[str, bool], tuple[str, ...], float]:
    """What is right of what was asked for, the faults, and the score; see `Verdict`.

    Args:
        reading: What the video shows.
        wanted: What was asked for, by the keys of `requests.asked`; at least one thing.
    """
    right = {key: reading.attributes.get(key) == value for key, value in wanted.items()}
    faults = _faults(reading, wanted)
    return right, faults, sum(right.values()) / len(right) * (FAULT_FACTOR if faults else 1.0)


def judge(prompt: str, frames: NDArray[np.float32], label: Mapping[str, str] | None = None) -> Verdict:
    """Scores a video against what a user's prompt names.

    Args:
        prompt: The user's prompt.
        frames: RGB in 0..1, shape `(frames, 64, 64, 3)`.
        label: What it asks for, where its author wrote that down; None reads the prompt.

    Returns:
        The verdict; without a score for a prompt without a label that the lab does not understand to the last word.
    """
    reason = "" if label else refusal(prompt)
    if reason:
        return Verdict(None, NOT_UNDERSTOOD.format(reason), {})
    wanted, reading = dict(label) if label else asked(prompt), read_video(frames)
    # Which words of a labelled request stand for an attribute is not known.
    words = dict.fromkeys(wanted, f'"{prompt}"') if label else wordings(prompt)
    right, faults, score = compare(reading, wanted)
    seen = reading.attributes
    sentences = [remark(key, seen.get(key, ""), words[key]) for key in wanted if not right[key]]
    sentences += [FAULTS[fault] for fault in faults]
    return Verdict(score, " ".join(sentences), right, faults)


def judge_bytes(
    task: tuple[str, NDArray[np.uint8], Mapping[str, str] | None],
) -> tuple[float | None, str]:
    """Score and critique of (prompt, 8-bit frames, label); at module level, so that worker processes can import it cheaply."""
    prompt, frames, label = task
    verdict = judge(prompt, (frames / 255).astype(np.float32), label)
    return verdict.score, verdict.critique
