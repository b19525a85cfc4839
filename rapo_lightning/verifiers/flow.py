"""Optical flow: the mean motion that the authors' script measures, and the dense fields that everything else is read from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""RGB, `(frames, height, width, 3)`."""
Field = NDArray[np.float32]
"""Displacement of each pixel to the next frame in px, `(height, width, 2)`: x to the right, y downwards."""
SIZE = 64
"""Length in px of the picture's shorter side where motion is measured (ours): with one size for all videos, what is measured
does not depend on theirs."""
FLOW_VERSION = 2
"""Counts up when flow or motion of a video changes: judgements of another version are made again."""


def farneback(first: Frames, second: Frames, neighbourhood: int = 5, sigma: float = 1.2) -> Field:
    """Flow from one picture of one channel to another, `(height, width)`; the defaults are the authors' script's."""
    flow = cv2.calcOpticalFlowFarneback(
        first, second, None, 0.5, levels=3, winsize=15, iterations=3, poly_n=neighbourhood, poly_sigma=sigma, flags=0
    )  # type: ignore[call-overload]
    return np.asarray(flow, dtype=np.float32)


def mean_flow(frames: Frames, fps: float, seconds: float) -> list[tuple[float, float]]:
    """Mean flow between frames `seconds` apart, as the authors' script measures it: in grey, of all pixels, at full size.

    Args:
        frames: The video.
        fps: Frames per second.
        seconds: Time between two sampled frames (0.5 in the authors' script), cut to whole frames, one at least.

    Returns:
        For each pair `(x, y)` in px, y downwards.
    """
    sampled = [
        np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames[:: max(1, int(fps * seconds))]
    ]
    means = [farneback(*pair).mean(axis=(0, 1)) for pair in zip(sampled[:-1], sampled[1:], strict=True)]
    return [(round(float(x), 4), round(float(y), 4)) for x, y in means]


def shrink(frames: Frames) -> Frames:
    """The frames with a shorter side of `SIZE` px."""
    height, width = frames.shape[1:3]
    scale = SIZE / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return frames
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.stack([np.asarray(cv2.resize(frame, size, interpolation=way), np.uint8) for frame in frames])


def pictures(frames: Frames) -> Frames:
    """The frames in one channel, along the colour in which they change most (ours), `(frames, height, width)`.

    In grey a body that is as light as what it passes cannot be seen.
    """
    changes = np.diff(frames.astype(np.float32), axis=0).reshape(-1, 3)
    colour = np.linalg.eigh(changes.T @ changes)[1][:, -1] if changes.any() else np.ones(3)
    colour = colour * (1 if colour.sum() > 0 else -1)
    low, high = np.minimum(colour, 0).sum(), np.maximum(colour, 0).sum()
    return np.asarray(np.round((frames @ colour - 255 * low) / (high - low)), np.uint8)


def fields(shown: Frames) -> list[Field]:
    """Flow from each picture to the next.

    With the wider neighbourhood that OpenCV's documentation names as the more robust one: with the authors' a body that goes
    half its length from frame to frame over a textured ground is lost.

    Args:
        shown: As `pictures`.
    """
    return [farneback(*pair, neighbourhood=7, sigma=1.5) for pair in zip(shown[:-1], shown[1:], strict=True)]


def follow(values: NDArray[np.float32], field: Field) -> NDArray[np.float32]:
    """What each pixel finds where the flow leads it.

    Args:
        values: The next frame, or the next field, `(height, width, channels)`.
        field: Where each pixel goes.
    """
    places = _grid(*field.shape[:2]) + field
    found = cv2.remap(values, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return np.asarray(found, np.float32)


@cache
def _grid(height: int, width: int) -> Field:
    """Each pixel's own place."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)


def speeds(field: Field) -> NDArray[np.float32]:
    """Length of each displacement in px, `(height, width)`."""
    return np.hypot(field[..., 0], field[..., 1])


_MOVED, _CHANGED, _BLUR = 0.1, 2.0, 1.5
"""Displacement in px, and change of the blurred value in 0..255 (sigma in px), from which a pixel moves (ours). In plain areas
flow is noise alone, so both are asked: noise with a sigma of 4 on a still video moves nothing."""


def moving(shown: Frames, flows: Sequence[Field]) -> list[NDArray[np.bool_]]:
    """Which pixels move from each picture to the next.

    Args:
        shown: As `pictures`.
        flows: Their `fields`.
    """
    blurred = [cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _BLUR) for picture in shown]
    changes = [np.abs(second - first) for first, second in zip(blurred[:-1], blurred[1:], strict=True)]
    return [(speeds(flow) > _MOVED) & (change > _CHANGED) for flow, change in zip(flows, changes, strict=True)]
