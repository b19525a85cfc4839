"""What holds over the frames of a lab video, and the faults of a video that no prompt asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .laws import recognize_law
from .tracking import Observation, Track
from .world import SHAPES, SIZES

SHARE = 0.85
"""Share of the frames in which what is shown must hold: 15 of 17, so that an odd frame or two are forgiven.

The lab's own choice, as all limits of this file; docs/lab.md has how far true and reconstructed videos stay from them.
"""
FAULTS = {
    "scene": "Some frames show no clear scene.",
    "light": "The light flickers.",
    "gone": "The body disappears in some frames.",
    "shape": "The body keeps no clear shape.",
    "colour": "The body changes its colour from frame to frame.",
    "size": "The body changes its size from frame to frame.",
    "jumps": "The body jumps from place to place.",
    "stutters": "The motion stutters.",
    "stops": "The motion stops for a while.",
    "extra": "There is a body that was not asked for.",
    "still": "The body does not move.",
}
"""The faults of a video with their sentences; `extra` and `still` are the only ones that depend on the prompt."""
_STRAY = 0.03
"""Share of a frame that may be neither background nor body; the pendulum's thread is half of a hundredth."""
_FLICKER = 2.0
"""Lightness (L*) by which a frame may differ from the usual one; a frame at 80 % is 3 darker at night, 17 in snow."""
_PATCH, _SHADE = 4.5, 9.0
"""How far in CIE Lab a part of the background may be from the mean of the frames around (lab-wan: 3.3 in all of 144 clips
but one), and a body from its usual colour (8.4)."""
_UNLIKE = 0.2
"""Difference from the nearest shape, as a share of the area, beyond which a body has none of them (a square has 0.19 from
the disc of its area)."""
_CLEARLY = 0.5
"""Another shape is clearly shown where it differs from the body half as much as the usual one, or less."""
_SHAPELESS = 0.28
"""Difference from the nearest shape beyond which a body is no body of the lab, but two that overlap, say (lab-wan: 0.22)."""
_HALF_STEP = 1.17
"""Half the way between two sizes, as a ratio of radii."""
_JUMP, _ALONE = 15.0, 7.0
"""Longest way in px from frame to frame (rendered: 11.1), and how much longer than both its neighbours along an axis
(rendered: 5.9)."""
_SUDDEN, _SUDDENLY = 3.5, 3.0
"""How much longer in px than both its neighbours, and how many times as long, a step is where time was cut out (rendered: 0 px
where it is so many times as long)."""
_TURNS = 5
"""How often a body may turn back between two long steps (rendered: 4, on a spring)."""
_MOVES = 0.8
"""Way in px from frame to frame that is surely motion."""
_STILL, _PAUSE = 0.35, 3
"""Way in px from frame to frame that is none, and so many of them in a row are a pause (rendered: 1, at a turn)."""
_ABRUPT = 1.4
"""Way in px before and after it with which already two such steps are a pause: a body that turns with a constant force moves
three times as far before and after two steps as in them."""
_GOES = 3.0
"""Way in px that a body must cover in all for a pause to be one (rendered: 0 at rest, else over 10)."""
_BRAKED, _LANDED = 1.8, 1.5
"""Longest last way in px of a body that brakes (rendered: 1.2), and how far from the ground it was thrown from it may land."""


def enough(right: NDArray[np.bool_] | Sequence[bool]) -> bool:
    """Whether something holds in so many frames that it holds in the video."""
    return len(right) > 0 and float(np.mean(right)) >= SHARE


def usual(names: Sequence[str]) -> str:
    """The most frequent name, empty names aside."""
    known = [name for name in names if name]
    return max(known, key=known.count) if known else ""


def steady(names: Sequence[str]) -> str:
    """The most frequent name if it holds in enough of the frames, else an empty one."""
    name = usual(names)
    return name if name and enough([other == name for other in names]) else ""


def _shape_names(track: Track) -> list[str]:
    """The shape in each frame in which the body is whole, empty where it is like none."""
    names = list(SHAPES)
    return [names[int(row.argmin())] if row.min() < _UNLIKE else "" for row in track.unlikeness[track.whole]]


def shape_of(track: Track) -> str:
    """The shape that a body keeps while it is wholly inside the picture, empty if it keeps none."""
    return steady(_shape_names(track)) if _mostly_whole(track) else ""


def size_of(track: Track) -> str:
    """The size that a body keeps while it is wholly inside the picture, empty if it keeps none."""
    if not _mostly_whole(track) or _size_changes(track):
        return ""
    radius = np.median(track.radii[track.whole])
    return min(SIZES, key=lambda name: abs(float(np.log(radius / SIZES[name]))))


def colour_of(track: Track) -> str:
    """The colour that a body keeps, empty if it keeps none."""
    return steady([name for name in track.colours if name])


def _mostly_whole(track: Track) -> bool:
    return 2 * int(track.whole.sum()) > len(track.whole)


def _size_changes(track: Track) -> bool:
    radii = track.radii[track.whole]
    return len(radii) > 0 and not enough(np.abs(np.log(radii / np.median(radii))) < np.log(_HALF_STEP))


def _shape_changes(track: Track) -> bool:
    """Whether another shape is clearly nearer in some frames, or none is near."""
    unlikeness = track.unlikeness[track.whole]
    if len(unlikeness) and not enough(unlikeness.min(1) < _SHAPELESS):
        return True
    shape = usual(_shape_names(track))
    if not shape:
        return False
    usually = unlikeness[:, list(SHAPES).index(shape)]
    return not enough(unlikeness.min(1) > _CLEARLY * usually)


def _is_there(track: Track) -> bool:
    """Whether a body is seen in enough of the frames; those before or after it crosses the picture's edge do not count."""
    frames = np.flatnonzero(track.seen)
    begin = 0 if track.whole[frames[0]] else frames[0]
    end = len(track.seen) if track.whole[frames[-1]] else frames[-1] + 1
    return enough(track.seen[begin:end])


def _steps(track: Track) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The way from each frame to the next as vector and length; NaN, which no limit catches, where one was not seen."""
    steps = np.diff(track.centres, axis=0)
    return steps, np.hypot(steps[:, 0], steps[:, 1])


def _jumps(track: Track) -> bool:
    """A step that is too long, or much longer than the steps around it, or a path that keeps turning back or turns twice."""
    steps, ways = _steps(track)
    sides = np.pad(np.abs(steps), ((1, 1), (0, 0)))
    alone = np.abs(steps) - np.maximum(sides[2:], sides[:-2])
    back = (steps[:-1] * steps[1:]).sum(1) < 0
    turns = back & (np.minimum(ways[:-1], ways[1:]) > 3)
    long = (ways > _JUMP).any() or (alone > _ALONE).any() or _is_sudden(ways)
    # Where two frames changed places, the path goes on, back and on again.
    swapped = back[:-1] & back[1:] & (np.minimum(np.minimum(ways[:-2], ways[1:-1]), ways[2:]) > _MOVES)
    return bool(long or turns.sum() >= _TURNS or swapped.any())


def _is_sudden(ways: NDArray[np.float64]) -> bool:
    around = np.maximum(ways[:-2], ways[2:])
    return bool(((ways[1:-1] - around > _SUDDEN) & (ways[1:-1] > _SUDDENLY * around)).any())


def _stutters(track: Track) -> bool:
    """A body that moves on in the same direction after it stood still for a frame, more than once."""
    steps, ways = _steps(track)
    slower = np.minimum(ways[:-2], ways[2:])
    onward = ((steps[:-2] * steps[2:]).sum(1) > 0) & (slower > _MOVES)
    return int((onward & (ways[1:-1] < 0.35 * slower)).sum()) >= 2


def _travel(track: Track) -> float:
    """The longer side of the box in px in which a body's centre stays."""
    return float(np.ptp(track.centres[track.seen], axis=0).max())


def _pauses(tracks: Sequence[Track]) -> list[tuple[int, int]]:
    """The pauses, as first and last frame: where no body that is seen moves, for `_PAUSE` steps or two abrupt ones."""
    ways = np.stack([_steps(track)[1] for track in tracks])
    if not (ways > 2 * _STILL).any() or max(map(_travel, tracks)) < _GOES:
        return []
    still = np.concatenate([[False], (np.nan_to_num(ways, nan=np.inf) < _STILL).all(0), [False]])
    edges = np.flatnonzero(np.diff(still.astype(int)))
    fastest = np.nan_to_num(ways).max(0)
    # The steps around it; the video's first and last have one only.
    return [
        (begin, end)
        for begin, end in edges.reshape(-1, 2)
        if end - begin >= _PAUSE
        or (end - begin == 2 and min([*fastest[max(0, begin - 1) : begin], *fastest[end : end + 1]]) > _ABRUPT)
    ]


def _comes_to_rest(track: Track, begin: int) -> bool:
    """Whether a body that rests from a frame to the end has slid to a halt, or has landed where it was thrown from."""
    law, _ = recognize_law(track.centres)
    if law == "slide":
        ways = _steps(track)[1][:begin]
        return float(ways[-1]) < min(_BRAKED, np.nanmax(ways) / 2)
    heights = track.centres[track.seen, 1]
    return law == "throw" and bool(abs(heights[-1] - heights.max()) < _LANDED)


def _stops(tracks: Sequence[Track]) -> bool:
    """Nothing moves for a while, and no law says that it should come to rest."""
    pauses = _pauses(tracks) if tracks else []
    if len(pauses) == 1 and len(tracks) == 1:
        begin, end = pauses[0]
        return not (begin and end == len(tracks[0].seen) - 1 and _comes_to_rest(tracks[0], begin))
    return bool(pauses)


def _flickers(seen: Observation) -> bool:
    """Whether the whole picture, a part of the background or a body is lighter, darker or tinted in some frames."""
    whole = np.abs(seen.light - np.median(seen.light)) < _FLICKER
    return not (
        enough(whole)
        and enough(seen.flicker < _PATCH)
        and all(enough(_unlike_usual(track.shades) < _SHADE) for track in seen.tracks)
    )


def _unlike_usual(shades: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance in CIE Lab of each shade from the median one; 0 where there is none."""
    return np.nan_to_num(np.linalg.norm(shades - np.nanmedian(shades, axis=0), axis=-1))


def find_faults(seen: Observation) -> tuple[str, ...]:
    """Keys of `FAULTS` for what is wrong with a video, whatever was asked for.

    Args:
        seen: What `tracking.observe` saw.
    """
    background, tracks = usual(seen.backgrounds), seen.tracks
    clear = [
        name == background != "" and stray < _STRAY for name, stray in zip(seen.backgrounds, seen.stray, strict=True)
    ]
    checks = {
        "scene": not enough(clear),
        "light": _flickers(seen),
        "gone": not tracks or not all(_is_there(track) for track in tracks),
        "shape": any(_shape_changes(track) for track in tracks),
        "colour": any(not colour_of(track) for track in tracks),
        "size": any(_size_changes(track) for track in tracks),
        "jumps": any(_jumps(track) for track in tracks),
        "stutters": any(_stutters(track) for track in tracks),
        "stops": _stops(tracks),
        "extra": not enough(seen.strangers == 0),
    }
    return tuple(name for name, wrong in checks.items() if wrong)
