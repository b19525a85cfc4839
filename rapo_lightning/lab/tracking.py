"""Finds the bodies of a lab video from its frames alone: background, colours, shapes, sizes and tracks (OpenCV)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from .render import background_image, signed_distance
from .world import BACKGROUNDS, COLOURS, FRAME_SIZE, SHAPES, SIZES

Array = NDArray[np.float32]
_MIN_AREA = 30
"""Pixels below which a blob is an artefact: two fifths of the smallest body."""
_TEMPLATE = 48


@dataclass(frozen=True)
class Track:
    """One body over the frames.

    Attributes:
        colour: Key of `world.COLOURS`.
        centres: Centroids in px, shape `(frames, 2)`, NaN where the body was not seen whole.
        shape: Key of `world.SHAPES`.
        size: Key of `world.SIZES`.
        seen: Share of the frames in which the body was seen.
    """

    colour: str
    centres: NDArray[np.float64]
    shape: str
    size: str
    seen: float


def _lab(image: Array) -> Array:
    """CIE Lab of RGB in 0..1; any shape that ends in 3."""
    flat = np.ascontiguousarray(image.reshape(1, -1, 3), dtype=np.float32)
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2LAB), dtype=np.float32).reshape(image.shape)


@cache
def _palette() -> Array:
    return _lab((np.array(list(COLOURS.values())) / 255).astype(np.float32))


@cache
def _backgrounds() -> dict[str, Array]:
    return {name: _lab(background_image(name).permute(1, 2, 0).numpy()) for name in BACKGROUNDS}


@cache
def _templates() -> dict[str, Array]:
    axis = torch.arange(_TEMPLATE) + 0.5 - _TEMPLATE / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radius = torch.tensor(_TEMPLATE / 6)
    return {name: (signed_distance(name, x, y, radius) < 0).float().numpy() for name in SHAPES}


def find_background(frames_lab: Array) -> str:
    """The background whose empty picture is nearest to the typical pixel, robust to bodies in front of it."""
    typical = np.median(frames_lab, axis=0)
    distances = {name: np.median(np.abs(typical - image).sum(-1)) for name, image in _backgrounds().items()}
    return min(distances, key=lambda name: float(distances[name]))


def _masks(frames_lab: Array, background: str) -> NDArray[np.int64]:
    """For each pixel the index of the palette colour it belongs to, -1 for background; shape `(frames, 64, 64)`."""
    to_background = np.sqrt(((frames_lab - _backgrounds()[background]) ** 2).sum(-1))
    labels = np.full(to_background.shape, -1)
    # Only the few pixels that are clearly off the wall are compared with the palette.
    candidates = to_background > 12
    distances = np.sqrt(((frames_lab[candidates][:, None] - _palette()) ** 2).sum(-1))
    # Nearer to a body's colour than to the wall: the edge pixels fall to either side evenly.
    labels[candidates] = np.where(distances.min(-1) < to_background[candidates], distances.argmin(-1), -1)
    return labels


def _blob(mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float, NDArray[np.float64]] | None:
    """Largest blob of a mask: its own mask, its area in px and its centroid."""
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return None
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    area = float(stats[best, cv2.CC_STAT_AREA])
    if area < _MIN_AREA:
        return None
    return (labels == best).astype(np.uint8), area, centres[best] + 0.5


def _at_edge(mask: NDArray[np.uint8]) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _overlap(mask: NDArray[np.uint8], area: float, centre: NDArray[np.float64]) -> dict[str, float]:
    """Intersection over union of a blob with each shape's template, brought to the template's area and place."""
    scale = (_TEMPLATE / 6) / np.sqrt(area / np.pi)
    offset = _TEMPLATE / 2 - scale * centre
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]], dtype=np.float64)
    placed = cv2.warpAffine(mask.astype(np.float32), matrix, (_TEMPLATE, _TEMPLATE)) > 0.5
    return {
        name: float((placed & (template > 0)).sum() / (placed | (template > 0)).sum())
        for name, template in _templates().items()
    }


def _size(areas: list[float]) -> str:
    radius = float(np.sqrt(np.median(areas) / np.pi))
    return min(SIZES, key=lambda name: abs(np.log(radius / SIZES[name])))


def _track(masks: NDArray[np.uint8], colour: str) -> Track | None:
    centres = np.full((len(masks), 2), np.nan)
    areas: list[float] = []
    overlaps: list[dict[str, float]] = []
    for index, mask in enumerate(masks):
        # A one-pixel thread and the fringe between two colours vanish in the opening.
        opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
        blob = _blob(opened.astype(np.uint8, copy=False))
        if blob is None:
            continue
        centres[index] = blob[2]
        if not _at_edge(blob[0]):
            areas.append(blob[1])
            overlaps.append(_overlap(*blob))
    if not areas:
        return None
    means = {name: float(np.mean([overlap[name] for overlap in overlaps])) for name in SHAPES}
    seen = float(np.isfinite(centres[:, 0]).mean())
    return Track(colour, centres, max(means, key=means.__getitem__), _size(areas), seen)


def track_bodies(frames: Array) -> tuple[str, list[Track]]:
    """Reads a lab video.

    Args:
        frames: RGB in 0..1, shape `(frames, 64, 64, 3)`.

    Returns:
        The background's name and up to two bodies, the largest first.

    Raises:
        ValueError: If the frames have another shape.
    """
    if frames.ndim != 4 or frames.shape[1:] != (FRAME_SIZE, FRAME_SIZE, 3):
        raise ValueError(
            f"The oracle reads frames of shape (frames, {FRAME_SIZE}, {FRAME_SIZE}, 3). Got {frames.shape}."
        )
    frames_lab = _lab(frames)
    background = find_background(frames_lab)
    labels = _masks(frames_lab, background)
    counts = np.bincount(labels[labels >= 0], minlength=len(COLOURS))
    tracks = []
    for index in np.argsort(counts)[::-1][:3]:
        if counts[index] < _MIN_AREA * len(frames) / 3:
            break
        track = _track((labels == index).astype(np.uint8), list(COLOURS)[int(index)])
        if track is not None and track.seen >= 0.4:
            tracks.append(track)
    return background, tracks[:2]
