"""Videos with known motion, drawn at any size."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from rapo_lightning.verifiers import View

FPS = 8.0


def moving_patch(
    places: Sequence[tuple[float, float]], size: tuple[int, int] = (96, 128), reach: float = 0.3, seed: int = 0
) -> np.ndarray:
    """A textured patch on a textured ground.

    Args:
        places: Its upper left corner in each frame as shares of width and height.
        size: Height and width in px.
        reach: Its height and width as a share of the height.
        seed: Seed of the textures.
    """
    rng = np.random.default_rng(seed)
    # Drawn large and shrunk, so that places between pixels are shown.
    height, width = 512, round(512 * size[1] / size[0])
    edge = round(height * reach)
    ground = cv2.resize(
        rng.integers(60, 120, (12, 16, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    patch = cv2.resize(rng.integers(120, 255, (5, 5, 3), dtype=np.uint8), (edge, edge), interpolation=cv2.INTER_CUBIC)
    frames = []
    for x, y in places:
        frame = ground.copy()
        left, top = round(x * width), round(y * height)
        frame[top : top + edge, left : left + edge] = patch[: height - top, : width - left]
        frames.append(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA))
    return np.stack(frames)


def rolling(count: int = 17, pace: float = 0.25, fps: float = FPS) -> list[tuple[float, float]]:
    """To the right at `pace` of the width per second."""
    return [(0.1 + pace * number / fps, 0.4) for number in range(count)]


def swinging(count: int = 17, fps: float = FPS, reach: float = 0.15) -> list[tuple[float, float]]:
    """Left and right, once in a second."""
    return [(0.4 + reach * np.sin(2 * np.pi * number / fps), 0.4) for number in range(count)]


def noise(count: int = 17, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def shuffled(frames: np.ndarray, seed: int = 0) -> np.ndarray:
    return frames[np.random.default_rng(seed).permutation(len(frames))]


def view(frames: np.ndarray, law: str = "", source: str = "a ball", prompt: str = "a ball", fps: float = FPS) -> View:
    return View(source, law, prompt, frames, fps, 0.5)


BAD = {
    "one frame": np.full((1, 96, 128, 3), 90, np.uint8),
    "no frame": np.zeros((0, 96, 128, 3), np.uint8),
    "grey": np.zeros((17, 96, 128), np.uint8),
    "numbers that are none": np.full((17, 96, 128, 3), np.nan, np.float32),
}
"""Videos that cannot be measured."""
