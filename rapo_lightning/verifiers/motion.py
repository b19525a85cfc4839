"""A video's motion in numbers that do not depend on its resolution: how coherent and smooth it is, and what moves whither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .flow import Field, Frames, fields, follow, moving, pictures, shrink, speeds

REGIONS = 3
"""Regions in each row and column of the picture."""
_RATE = 8.0
"""Frames per second that velocities are measured at (ours): over a shorter time, slow motion is lost in noise."""
_CHANGED = 4.0
"""Change of a colour value from which a pixel has changed (ours): what a codec adds stays below."""
_FEWEST = 8
"""Pixels that must have changed for their error to say anything."""
Masks = Sequence[NDArray[np.bool_]]


@dataclass(frozen=True)
class Motion:
    """Motion of a video.

    Attributes:
        seconds: Time between two measurements.
        velocity: Mean velocity of the pixels that move in shares of width and height per second, `(pairs, 2)`: x to the
            right, y downwards; 0 where nothing moves.
        moving: Share of the picture's pixels that move, `(pairs,)`.
        region_velocity: `velocity` of each region, `(pairs, REGIONS, REGIONS, 2)`, rows from the top.
        region_moving: `moving` of each region, `(pairs, REGIONS, REGIONS)`.
        coherence: As `coherence`.
        smoothness: As `smoothness`.
    """

    seconds: float
    velocity: NDArray[np.float64]
    moving: NDArray[np.float64]
    region_velocity: NDArray[np.float64]
    region_moving: NDArray[np.float64]
    coherence: float
    smoothness: float | None


def _chance(values: NDArray[np.float32]) -> float:
    """Mean absolute difference of two pixels drawn at random, `(pixels, channels)` (Gini's mean difference)."""
    ordered, count = np.sort(values, axis=0), len(values)
    weights = 2.0 * np.arange(1, count + 1) - count - 1
    return float((weights @ ordered).mean() * 2 / (count * (count - 1)))


def coherence(frames: Frames, flows: Sequence[Field]) -> float:
    """How well the flow predicts each frame from the next, 0..1; 1 where nothing changes.

    The warping error (Lai et al., arXiv:1808.00449) of the pixels that change, as a share of what two of these pixels, drawn
    at random, differ by (ours): 1 minus the sum of the errors over the sum of what chance would miss by. A share of the change
    from frame to frame is no measure: the smaller the motion, the larger is the share that interpolation misses.

    Args:
        frames: The video.
        flows: The `fields` of its pictures.
    """
    missed = by_chance = 0.0
    values = frames.astype(np.float32)
    everywhere = np.asarray((np.abs(np.diff(values, axis=0)) > _CHANGED).any(axis=-1))
    for first, second, flow, changed in zip(values[:-1], values[1:], flows, everywhere, strict=True):
        here, there = first[changed], second[changed]
        if len(here) >= _FEWEST:
            missed += float(np.abs(follow(second, flow)[changed] - here).mean()) * len(here)
            by_chance += _chance(np.concatenate([here, there])) * len(here)
    return max(0.0, 1 - missed / by_chance) if by_chance else 1.0


def smoothness(flows: Sequence[Field], masks: Masks) -> float | None:
    """How little the acceleration of what moves changes, relative to its speed, 0..1; None where nothing moves.

    With the velocities u, v, w of a pixel that is followed over three steps: 1 minus the sum of |u - 2 v + w| over that of
    |u| + 2 |v| + |w| (ours). A constant velocity and a constant force cost nothing; a jolt, a turn on the spot and a frame shown
    twice cost most. The acceleration itself, |v - u| over |u| + |v|, would also blame a ball for falling.

    Args:
        flows: The `fields` of a video's pictures.
        masks: Which pixels move, as `flow.moving`.
    """
    jolts = total = 0.0
    for number in range(len(flows) - 2):
        first = flows[number]
        second = follow(flows[number + 1], first)
        third = follow(flows[number + 2], first + second)
        chosen = masks[number] | masks[number + 1] | masks[number + 2]
        jolts += float(speeds(first - 2 * second + third)[chosen].sum())
        total += float((speeds(first) + 2 * speeds(second) + speeds(third))[chosen].sum())
    return 1 - jolts / total if total else None


def _by_region(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sums over the regions, `(pairs, REGIONS, REGIONS, ...)`, of values, `(pairs, height, width, ...)`."""
    starts = [np.arange(REGIONS) * length // REGIONS for length in values.shape[1:3]]
    rows = np.add.reduceat(values.astype(np.float64), starts[0], axis=1)
    return np.asarray(np.add.reduceat(rows, starts[1], axis=2))


def measure_motion(frames: Frames, fps: float) -> Motion:
    """Measures a video's motion with a shorter side of `flow.SIZE` px.

    Coherence and smoothness are measured from each frame to the next, so that no frame is left out; velocities between frames
    an eighth of a second apart, or from frame to frame where that is longer.

    Args:
        frames: The video.
        fps: Frames per second.
    """
    small = shrink(frames)
    shown = pictures(small)
    flows = fields(shown)
    masks = moving(shown, flows)
    step = max(1, round(fps / _RATE))
    sampled = flows if step == 1 else fields(shown[::step])
    sampled_masks = masks if step == 1 else moving(shown[::step], sampled)
    shape = shown.shape[1:]
    whose = np.array(sampled_masks, np.float32).reshape(-1, *shape)
    sums = _by_region(np.array(sampled, np.float32).reshape(-1, *shape, 2) * whose[..., None])
    counts, pixels = _by_region(whose), _by_region(np.ones((1, *shape), np.float32))
    rate = fps / step / np.array([shape[1], shape[0]])
    everywhere = counts.sum(axis=(1, 2))
    return Motion(
        seconds=step / fps,
        velocity=sums.sum(axis=(1, 2)) / np.maximum(everywhere, 1)[:, None] * rate,
        moving=everywhere / pixels.sum(),
        region_velocity=sums / np.maximum(counts, 1)[..., None] * rate,
        region_moving=counts / pixels,
        coherence=coherence(small, flows),
        smoothness=smoothness(flows, masks),
    )
