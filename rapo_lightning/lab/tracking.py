"""Follows the bodies of a lab video from its frames alone, and looks at what is around them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import cv2
import numpy as np
from numpy.typing import NDArray

from .blobs import (
    MIN_AREA,
    OPENING,
    Array,
    Blob,
    background_distances,
    components,
    empty_picture,
    find_backgrounds,
    find_blobs,
    lab_of,
    label_pixels,
)
from .shapes import coverage, measure
from .world import FRAME_SIZE, SHAPES

_CANDIDATES = 5
"""The largest blobs of a frame, which may be bodies."""
_COLOUR_CHANGE = 24.0
"""What another colour counts in px when a blob is given to a body."""
_STRAY, _NEAR = 25.0, np.ones((7, 7), np.uint8)
"""Distance (CIE Lab) beyond which a pixel is not background, and what lies so near a blob that it is its edge."""
_PART = 16
"""Side in px of the parts of the background whose light is followed."""


@dataclass(frozen=True)
class Track:
    """One body over the frames; where it was not seen, names are empty and numbers NaN.

    Attributes:
        centres: Centroids in px, shape `(frames, 2)`.
        colours: Key of `world.COLOURS` in each frame.
        radii: Radius in px of the disc of the same area, shape `(frames,)`; NaN where the body is not whole.
        unlikeness: How far the body is from each shape of `world.SHAPES` (see `shapes.measure`), `(frames, shapes)`; NaN
            where it is not whole.
        shades: Median CIE Lab of what is inside it, shape `(frames, 3)`.
    """

    centres: NDArray[np.float64]
    colours: list[str]
    radii: NDArray[np.float64]
    unlikeness: NDArray[np.float64]
    shades: NDArray[np.float64]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """In which frames the body was seen."""
        return np.isfinite(self.centres[:, 0])

    @property
    def whole(self) -> NDArray[np.bool_]:
        """In which frames it was wholly inside the picture."""
        return np.isfinite(self.radii)


@dataclass(frozen=True)
class Observation:
    """All that was seen of a video.

    Attributes:
        backgrounds: Key of `world.BACKGROUNDS` in each frame; empty where a frame shows none of them.
        tracks: Up to two bodies, the largest first.
        strangers: In each frame the number of blobs that belong to neither, and of connected stray areas as large as one.
        stray: In each frame the share of pixels that are neither background nor near a blob.
        light: Median lightness of each frame, L* of CIE Lab in 0..100.
        flicker: How far in CIE Lab the most changed part of each frame's background is from the mean of the frames before
            and after.
    """

    backgrounds: list[str]
    tracks: list[Track]
    strangers: NDArray[np.int64]
    stray: NDArray[np.float64]
    light: NDArray[np.float64]
    flicker: NDArray[np.float64]


def _free(blobs: list[Blob]) -> NDArray[np.bool_]:
    """The pixels that are in no blob and not near one."""
    masks = np.zeros((FRAME_SIZE, FRAME_SIZE), np.uint8)
    for blob in blobs:
        masks |= blob.mask
    return np.asarray(cv2.dilate(masks, _NEAR)) == 0


def _stray(to_background: Array, free: NDArray[np.bool_]) -> tuple[float, int]:
    """The share of pixels that are neither background nor near a blob, and the number of connected areas of them."""
    off = (to_background > _STRAY) & free
    areas = cv2.morphologyEx(off.astype(np.uint8), cv2.MORPH_OPEN, OPENING)
    return float(off.mean()), sum(1 for _ in components(np.asarray(areas, np.uint8)))


def _flicker(offsets: Array, bare: NDArray[np.bool_]) -> NDArray[np.float64]:
    """See `Observation.flicker`, of offsets from the background; a part counts in a frame if half of its pixels are bare."""
    length, parts = len(offsets), FRAME_SIZE // _PART
    shape = (length, parts, _PART, parts, _PART, -1)
    counts = bare.reshape(shape).sum((2, 4))
    sums = (offsets * bare[..., None]).reshape(shape).sum((2, 4))
    shades = np.where(2 * counts < _PART**2, np.nan, sums / np.maximum(counts, 1))
    changes = np.linalg.norm(shades[1:-1] - (shades[:-2] + shades[2:]) / 2, axis=-1)
    return np.pad(np.nan_to_num(changes).max((1, 2)), 1)[:length].astype(float)


def _assign(blobs: list[list[Blob]], count: int) -> list[list[Blob | None]]:
    """Gives each body its blob in each frame: the nearest to where it was, of the colour that it had."""
    bodies: list[list[Blob | None]] = [[] for _ in range(count)]
    start = next(found for found in blobs if len(found) >= count)
    last = start[:count]
    for found in blobs:
        options = [*found[:_CANDIDATES], *[None] * max(0, count - len(found))]
        chosen = min(
            permutations(options, count),
            key=lambda order: sum(
                float(np.hypot(blob.centre[0] - old.centre[0], blob.centre[1] - old.centre[1]))
                + _COLOUR_CHANGE * (blob.colour != old.colour)
                - blob.area / MIN_AREA
                for blob, old in zip(order, last, strict=True)
                if blob is not None
            ),
        )
        for body, blob in zip(bodies, chosen, strict=True):
            body.append(blob)
        last = [blob or old for blob, old in zip(chosen, last, strict=True)]
    return bodies


def _shade(blob: Blob, frame_lab: Array) -> Array:
    """Median CIE Lab of what is inside a blob, of all of it if it has no inside."""
    core = cv2.erode(blob.mask, OPENING, borderValue=0).astype(bool)
    return np.asarray(np.median(frame_lab[core if core.any() else blob.mask.astype(bool)], axis=0))


def _track(
    body: list[Blob | None], others: list[Blob | None], frames: Array, frames_lab: Array, background: str
) -> Track:
    length = len(body)
    sizes = ((length, 2), length, (length, len(SHAPES)), (length, 3))
    centres, radii, unlikeness, shades = (np.full(size, np.nan) for size in sizes)
    covers, places = [], []
    for index, (blob, other) in enumerate(zip(body, others, strict=True)):
        if blob is None:
            continue
        centres[index], shades[index] = blob.centre, _shade(blob, frames_lab[index])
        if not (blob.mask[[0, -1]].any() or blob.mask[:, [0, -1]].any()):
            covers.append(coverage(frames[index], empty_picture(background), blob.mask, other.mask if other else None))
            places.append(index)
    if covers:
        centres[places], radii[places], unlikeness[places] = measure(np.stack(covers))
    return Track(centres, [blob.colour if blob else "" for blob in body], radii, unlikeness, shades)


def _count(blobs: list[list[Blob]]) -> int:
    """As many bodies as most of the frames that have any, two at most."""
    counts = [min(len(found), 2) for found in blobs if found]
    return 0 if 2 * len(counts) < len(blobs) else 1 + (2 * counts.count(2) > len(counts))


def observe(frames: Array) -> Observation:
    """Looks at every frame of a lab video.

    Args:
        frames: RGB in 0..1, shape `(frames, 64, 64, 3)`.

    Raises:
        ValueError: If the frames have another shape.
    """
    if frames.ndim != 4 or not len(frames) or frames.shape[1:] != (FRAME_SIZE, FRAME_SIZE, 3):
        raise ValueError(
            f"The oracle reads frames of shape (frames, {FRAME_SIZE}, {FRAME_SIZE}, 3). Got {frames.shape}."
        )
    frames_lab = lab_of(frames)
    backgrounds, light = find_backgrounds(frames_lab), np.median(frames_lab[..., 0], axis=(1, 2)).astype(float)
    known = [name for name in backgrounds if name]
    if not known:
        none = np.zeros(len(frames))
        return Observation(backgrounds, [], none.astype(np.int64), np.ones(len(frames)), light, none)
    background = max(known, key=known.count)
    shown = [name == background for name in backgrounds]
    to_background = background_distances(frames_lab, background)
    labels = label_pixels(frames_lab, to_background)
    # A frame that is no picture of the scene has no bodies.
    blobs = [find_blobs(label) if ok else [] for label, ok in zip(labels, shown, strict=True)]
    count = _count(blobs)
    bodies = _assign(blobs, count) if count else []
    alone: list[Blob | None] = [None] * len(frames)
    others = [bodies[1], bodies[0]] if count == 2 else [alone]
    tracks = [_track(*pair, frames, frames_lab, background) for pair in zip(bodies, others, strict=False)]
    free = np.stack([_free(found) for found in blobs])
    stray, areas = zip(*map(_stray, to_background, free), strict=True)
    strangers = np.array(
        [max(0, len(found) - count) + more * ok for found, more, ok in zip(blobs, areas, shown, strict=True)]
    )
    return Observation(
        backgrounds, tracks, strangers, np.array(stray), light, _flicker(frames_lab, free & (to_background < _STRAY))
    )
