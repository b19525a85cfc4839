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
    for first, second, flow in zip(frames[:-1].astype(np.float32), frames[1:].astype(np.float32), flows, strict=True):
        changed = np.abs(second - first).max(axis=-1) > _CHANGED
        if changed.sum() < _FEWEST:
            continue
        missed += float(np.abs(follow(second, flow) - first).mean(axis=-1)[changed].sum())
        by_chance += _chance(np.concatenate([first[changed], second[changed]])) * float(changed.sum())
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
    """Sums over the regions, `(REGIONS, REGIONS, ...)`, of values, `(height, width, ...)`."""
    rows = np.array_split(values, REGIONS, axis=0)
    return np.array([[cell.sum(axis=(0, 1)) for cell in np.array_split(row, REGIONS, axis=1)] for row in rows])


def _regions(
    flows: Sequence[Field], masks: Masks
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """By pair and region the sum of the moving pixels' displacements, their number, and that of all pixels."""
    shape = flows[0].shape[:2] if flows else (1, 1)
    sums = [_by_region(flow * mask[..., None]) for flow, mask in zip(flows, masks, strict=True)]
    counts = [_by_region(mask.astype(np.float32)) for mask in masks]
    pixels = _by_region(np.ones(shape, np.float32))
    return (
        np.array(sums, float).reshape(-1, REGIONS, REGIONS, 2),
        np.array(counts, float).reshape(-1, REGIONS, REGIONS),
        pixels,
    )


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
    sums, counts, pixels = _regions(sampled, masks if step == 1 else moving(shown[::step], sampled))
    rate = fps / step / np.array([small.shape[2], small.shape[1]])
    everywhere = counts.sum(axis=(1, 2))
    return Motion(
        seconds=step / fps,
        velocity=sums.sum(axis=(1, 2)) / np.maximum(everywhere, 1)[:, None] * rate,
        moving=everywhere / pixels.sum(),
        region_velocity=sums / np.maximum(counts, 1)[..., None] * rate,
        region_moving=counts / np.maximum(pixels, 1),
        coherence=coherence(small, flows),
        smoothness=smoothness(flows, masks),
    )
