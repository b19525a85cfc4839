"""Optical flow of a video: mean motion over time, and how well each frame predicts the next."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_MOVING_PIXELS = 0.2
"""Displacement in px from which a pixel counts as moving."""


@dataclass(frozen=True)
class Flow:
    """Motion of a video.

    Attributes:
        means: Mean displacement of the moving pixels between sampled frames, `(x, y)` in px, y downwards; (0, 0) where
            nothing moves.
        coherence: 0..1, how well frames warped by the flow match the next ones; 1 for a still video.
    """

    means: list[tuple[float, float]]
    coherence: float


def _farneback(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    # Parameters of OpenCV's own sample, which the authors' script uses as well.
    flow = cv2.calcOpticalFlowFarneback(
        first, second, None, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
    )  # type: ignore[call-overload]
    return np.asarray(flow, dtype=np.float32)


def _warp_error(first: NDArray[np.uint8], second: NDArray[np.uint8], flow: NDArray[np.float32]) -> float:
    height, width = first.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    field = grid + flow
    warped = cv2.remap(second, field[..., 0], field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float(np.abs(warped.astype(np.float32) - first.astype(np.float32)).mean())


def measure_flow(frames: NDArray[np.uint8], fps: float, seconds: float) -> Flow:
    """Farneback flow between frames `seconds` apart.

    Args:
        frames: RGB, `(frames, height, width, 3)`.
        fps: Frames per second.
        seconds: Time between two sampled frames; at least one frame.
    """
    step = max(1, round(fps * seconds))
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[::step]]
    means, errors, changes = [], [], []
    for first, second in zip(grey[:-1], grey[1:], strict=True):
        flow = _farneback(first, second)
        moving = np.hypot(flow[..., 0], flow[..., 1]) > _MOVING_PIXELS
        mean = flow[moving].mean(axis=0) if moving.any() else np.zeros(2)
        means.append((round(float(mean[0]), 2), round(float(mean[1]), 2)))
        errors.append(_warp_error(first, second, flow))
        changes.append(float(np.abs(first.astype(np.float32) - second.astype(np.float32)).mean()))
    change = float(np.sum(changes))
    coherence = 1.0 if change < 1e-3 else float(np.clip(1 - np.sum(errors) / change, 0, 1))
    return Flow(means, coherence)
