"""Damaged videos of true scenes, which the oracle should read like the true ones. Tests and the measuring script share them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float32]
Damage = Callable[[Frames], Frames]
_TINT = (1.04, 0.97, 0.96)
"""Factors of red, green and blue."""


def blurred(clip: Frames, sigma: float = 0.7) -> Frames:
    """A Gaussian blur of `sigma` px."""
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in clip])


def noisy(clip: Frames, deviation: float = 0.03) -> Frames:
    """Gaussian noise of a standard deviation, the same for every clip."""
    noise = np.random.default_rng(0).normal(0, deviation, clip.shape).astype(np.float32)
    return (clip + noise).clip(0, 1)


def recoloured(clip: Frames) -> Frames:
    """A little warmer and brighter."""
    return (clip * np.array(_TINT, np.float32) + 0.015).clip(0, 1)


def compressed(clip: Frames, quality: int = 85) -> Frames:
    """Each frame through JPEG."""
    setting = [cv2.IMWRITE_JPEG_QUALITY, quality]
    coded = [cv2.imencode(".jpg", (frame * 255).round().astype(np.uint8), setting)[1] for frame in clip]
    return np.asarray([cv2.imdecode(item, cv2.IMREAD_COLOR) for item in coded], np.float32) / np.float32(255)


def darker(clip: Frames, factor: float = 0.9) -> Frames:
    """All values times a factor."""
    return np.asarray(clip * factor, np.float32)


def halved(clip: Frames) -> Frames:
    """Half the resolution, and back."""
    size = clip.shape[2], clip.shape[1]
    small = [cv2.resize(frame, (size[0] // 2, size[1] // 2), interpolation=cv2.INTER_AREA) for frame in clip]
    return np.asarray([cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in small], np.float32)


def tinted(clip: Frames, step: float) -> Frames:
    """All frames warmer (`step` more red, as much less blue), or colder with a negative step."""
    return (clip + np.array([step, 0, -step], np.float32)).clip(0, 1)


MILD: dict[str, Damage] = {
    "blur 0.7 px": blurred,
    "noise 0.03": noisy,
    "colours shifted": recoloured,
    "JPEG 85": compressed,
}
"""What the oracle must not mind."""
HARSH: dict[str, Damage] = {
    "blur 1.6 px": partial(blurred, sigma=1.6),
    "half the resolution": halved,
    "10 % darker": darker,
    "JPEG 60": partial(compressed, quality=60),
    "noise 0.05": partial(noisy, deviation=0.05),
    "warmer by 0.05": partial(tinted, step=0.05),
    "warmer by 0.1": partial(tinted, step=0.1),
    "colder by 0.05": partial(tinted, step=-0.05),
    "colder by 0.1": partial(tinted, step=-0.1),
}
"""What may be beyond it."""
