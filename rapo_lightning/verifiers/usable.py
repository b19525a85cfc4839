"""What keeps a video from being judged, in a sentence: such a video is recorded, and the others of its batch go on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ONE_FRAME = "The video has a single frame."
NO_NUMBERS = "The video has pixels that are no numbers."
NOT_MADE = "The video was not made."
"""Of the frames `(0, 0, 0, 3)` in 8 bit, which stand for a video that an engine could not make."""
PLAIN = "The video shows one plain colour."
_PLAIN = 4
"""Widest range of the colour values of a plain video, in 0..255 (ours): a codec does not keep one value."""


def unreadable(frames: NDArray[Any]) -> str:
    """What is wrong with frames that are no video, empty if they are one: RGB in 8 bit, `(frames, height, width, 3)`."""
    kind, shape = getattr(frames, "dtype", None), tuple(getattr(frames, "shape", ()))
    if kind == np.uint8 and len(shape) == 4 and shape[-1] == 3 and min(shape) > 0:
        return ""
    if kind == np.uint8 and shape == (0, 0, 0, 3):
        return NOT_MADE
    if isinstance(frames, np.ndarray) and frames.dtype.kind == "f" and not np.isfinite(frames).all():
        return NO_NUMBERS
    return (
        f"The video cannot be read: its frames are {type(frames).__name__ if kind is None else kind} of shape {shape}."
    )


def unmeasurable(frames: NDArray[Any]) -> str:
    """What keeps motion from being measured, empty if nothing does."""
    return unreadable(frames) or (ONE_FRAME if len(frames) < 2 else "")


def is_plain(frames: NDArray[np.uint8]) -> bool:
    """Whether a video shows one plain colour, black for example, all along."""
    low, high = frames.min(axis=(0, 1, 2)).astype(int), frames.max(axis=(0, 1, 2)).astype(int)
    return bool((high - low).max() <= _PLAIN)
