"""Reads place, size and shape of a body from how far it covers each pixel, to a fraction of a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from .render import signed_distance
from .world import FRAME_SIZE, SHAPES

Array = NDArray[np.float32]
_REACH = 16
"""Half the side in px of the window that a shape is compared in: the largest body reaches 13.4 px."""
_MARGIN = np.ones((7, 7), np.uint8)
_FOREIGN = 0.2
"""Distance in RGB from the mixtures of body and background, beyond which a pixel is neither (a thread, another body)."""
_SOFTNESS = 0.75
"""Half the width in px of a template's edge; a rendered edge has 0.5, a blurred one 1 and more."""


def coverage(frame: Array, background: Array, mask: NDArray[np.uint8], other: NDArray[np.uint8] | None) -> Array:
    """Share of each pixel that a body covers, from where its colour lies between background and body.

    Args:
        frame: RGB in 0..1, shape `(64, 64, 3)`.
        background: The empty picture, same shape.
        mask: 1 where the body is, to a pixel or two.
        other: The same of another body, which covers what it covers.

    Returns:
        About 0..1, shape `(64, 64)`; 0 away from the body.
    """
    core = cv2.erode(mask, np.ones((3, 3), np.uint8)).astype(bool)
    colour = np.median(frame[core if core.any() else mask.astype(bool)], axis=0)
    near = cv2.dilate(mask, _MARGIN).astype(bool)
    if other is not None:
        near &= ~other.astype(bool)
    offset, span = frame[near] - background[near], colour - background[near]
    share = (offset * span).sum(-1) / (span**2).sum(-1).clip(1e-4)
    foreign = np.linalg.norm(offset - share[:, None].clip(0, 1) * span, axis=-1) > _FOREIGN
    result = np.zeros(frame.shape[:2], np.float32)
    # Not cut at 0: the noise of the wall would add up to an area.
    result[near] = np.where(foreign, 0, share.clip(-0.3, 1.1))
    return result


def _windows(covers: Array, centres: NDArray[np.float64]) -> tuple[Array, NDArray[np.float64]]:
    """The part of each cover around a body's centre, and where the centre lies in it."""
    corners = np.floor(centres).astype(int)
    padded = np.pad(covers, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)))
    cut = [cover[y : y + 2 * _REACH, x : x + 2 * _REACH] for cover, (x, y) in zip(padded, corners, strict=True)]
    return np.stack(cut), centres - corners + _REACH


def measure(covers: Array) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Place, size and likeness to each shape of one body in several frames.

    Each shape is drawn at the body's own centre and size and compared with what the body covers. Blur and noise change
    neither centre nor area, and they are the same to every shape.

    Args:
        covers: What `coverage` gives, shape `(frames, 64, 64)`.

    Returns:
        Centres in px, `(frames, 2)`; radii in px of the disc of the same area, `(frames,)`; and the squared difference
        from each shape of `world.SHAPES` as a share of the body's area, `(frames, shapes)`.
    """
    axis = np.arange(FRAME_SIZE) + 0.5
    area = covers.sum((1, 2)).clip(1.0)
    centres = np.stack([covers.sum(1) @ axis / area, covers.sum(2) @ axis / area], axis=1).clip(0, FRAME_SIZE - 1)
    radii = np.sqrt(area / np.pi)
    windows, places = _windows(covers, centres)
    pixels = torch.arange(2 * _REACH) + 0.5
    x = pixels[None, None, :] - torch.as_tensor(places[:, 0], dtype=torch.float32)[:, None, None]
    y = pixels[None, :, None] - torch.as_tensor(places[:, 1], dtype=torch.float32)[:, None, None]
    x, y = torch.broadcast_tensors(x, y)
    radius, seen = torch.as_tensor(radii, dtype=torch.float32)[:, None, None], torch.from_numpy(windows)
    errors = []
    for shape in SHAPES:
        template = (0.5 - signed_distance(shape, x, y, radius) / (2 * _SOFTNESS)).clamp(0, 1)
        errors.append((template - seen).square().sum((1, 2)))
    return centres, radii.astype(np.float64), torch.stack(errors, 1).double().numpy() / area[:, None]
