"""Finds the bodies of a lab video from its frames alone, frame by frame: background, blobs and tracks (OpenCV)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import cv2
import numpy as np
from numpy.typing import NDArray

from .render import background_image
from .shapes import coverage, measure
from .world import BACKGROUNDS, COLOURS, FRAME_SIZE, SHAPES

Array = NDArray[np.float32]
Mask = NDArray[np.uint8]
MIN_AREA = 40
"""Pixels below which a blob is an artefact: a third of the smallest body. The lab's own choice, as all limits here."""
_MAX_AREA = 600
"""Pixels above which a blob is no body: half more than the largest one."""
_BACKGROUND_LIMIT = 16.0
"""Largest typical distance (CIE Lab, summed over channels) between a frame and its background; a black frame is 33 from the
darkest one, generated frames are under 3."""
_CANDIDATES = 5
"""The largest blobs of a frame, which may be bodies."""
_COLOUR_CHANGE = 24.0
"""What another colour counts in px when a blob is given to a body."""
_STRAY, _NEAR = 25.0, np.ones((7, 7), np.uint8)
"""Distance (CIE Lab) beyond which a pixel is not background, and what lies so near a blob that it is its edge."""
_OPENING, _CORE = np.ones((3, 3), np.uint8), 9
"""What thinner things vanish in, and the pixels inside a blob from which on a second colour makes it two bodies."""


@dataclass(frozen=True)
class Blob:
    """One body in one frame: its hard mask and the name of its colour."""

    mask: Mask
    area: int
    colour: str
    centre: tuple[float, float]


@dataclass(frozen=True)
class Track:
    """One body over the frames; where it was not seen, names are empty and numbers NaN.

    Attributes:
        centres: Centroids in px, shape `(frames, 2)`.
        colours: Key of `world.COLOURS` in each frame.
        radii: Radius in px of the disc of the same area, shape `(frames,)`; NaN where the body is not whole.
        unlikeness: How far the body is from each shape of `world.SHAPES` (see `shapes.measure`), `(frames, shapes)`; NaN
            where it is not whole.
    """

    centres: NDArray[np.float64]
    colours: list[str]
    radii: NDArray[np.float64]
    unlikeness: NDArray[np.float64]

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
        strangers: In each frame the number of blobs that belong to neither.
        stray: In each frame the share of pixels that are neither background nor near a blob.
        light: Median lightness of each frame, L* of CIE Lab in 0..100.
    """

    backgrounds: list[str]
    tracks: list[Track]
    strangers: NDArray[np.int64]
    stray: NDArray[np.float64]
    light: NDArray[np.float64]


def _lab(image: Array) -> Array:
    """CIE Lab of RGB in 0..1; any shape that ends in 3."""
    flat = np.ascontiguousarray(image.reshape(1, -1, 3), dtype=np.float32)
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2LAB), dtype=np.float32).reshape(image.shape)


@cache
def _palette() -> Array:
    return _lab((np.array(list(COLOURS.values())) / 255).astype(np.float32))


@cache
def _background(name: str) -> Array:
    return np.ascontiguousarray(background_image(name).permute(1, 2, 0).numpy())


@cache
def _backgrounds_lab() -> Array:
    return np.stack([_lab(_background(name)) for name in BACKGROUNDS])


def find_backgrounds(frames_lab: Array) -> list[str]:
    """The background whose empty picture each frame comes nearest to, robust to bodies in front; empty if none does."""
    # Every second pixel is enough for a median.
    frames, empty = frames_lab[:, ::2, ::2], _backgrounds_lab()[:, ::2, ::2]
    distances = np.stack([np.median(np.abs(frames - image).sum(-1), axis=(1, 2)) for image in empty])
    names = np.array(list(BACKGROUNDS))[distances.argmin(0)]
    return [str(name) if near < _BACKGROUND_LIMIT else "" for name, near in zip(names, distances.min(0), strict=True)]


def _distances(frames_lab: Array, background: str) -> Array:
    """Distance of each pixel from the background in CIE Lab, `(frames, 64, 64)`."""
    offset = frames_lab - _backgrounds_lab()[list(BACKGROUNDS).index(background)]
    return np.asarray(np.sqrt(np.einsum("fhwc,fhwc->fhw", offset, offset)))


def _labels(frames_lab: Array, to_background: Array) -> NDArray[np.int64]:
    """For each pixel the index of the palette colour it belongs to, -1 for background; shape `(frames, 64, 64)`."""
    labels = np.full(to_background.shape, -1)
    # Only the few pixels that are clearly off the wall are compared with the palette.
    candidates = to_background > 12
    distances = np.sqrt(((frames_lab[candidates][:, None] - _palette()) ** 2).sum(-1))
    # Nearer to a body's colour than to the wall: the edge pixels fall to either side evenly.
    labels[candidates] = np.where(distances.min(-1) < to_background[candidates], distances.argmin(-1), -1)
    return labels


def _components(mask: Mask) -> Iterator[tuple[Mask, int, tuple[float, float]]]:
    count, parts, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=4)
    for index in range(1, count):
        area = int(stats[index, cv2.CC_STAT_AREA])
        if area >= MIN_AREA:
            x, y = centres[index] + 0.5
            yield (parts == index).astype(np.uint8), area, (float(x), float(y))


def find_blobs(labels: NDArray[np.int64]) -> list[Blob]:
    """The blobs of one frame, the largest first; bodies that touch are parted by colour."""
    names, found = list(COLOURS), []
    # A thread and the fringe between two colours vanish in the opening.
    foreground = cv2.morphologyEx((labels >= 0).astype(np.uint8), cv2.MORPH_OPEN, _OPENING)
    for mask, area, centre in _components(np.asarray(foreground, np.uint8)):
        core = cv2.erode(mask, _OPENING).astype(bool)
        counts = np.bincount(labels[core], minlength=len(names))
        first, second = np.argsort(counts)[::-1][:2]
        if counts[second] < max(_CORE, 0.12 * counts.sum()):
            found.append(Blob(mask, area, names[first], centre))
            continue
        for index in (first, second):
            part = cv2.morphologyEx((mask.astype(bool) & (labels == index)).astype(np.uint8), cv2.MORPH_OPEN, _OPENING)
            found += [Blob(*piece[:2], names[index], piece[2]) for piece in _components(np.asarray(part, np.uint8))]
    return sorted((blob for blob in found if blob.area <= _MAX_AREA), key=lambda blob: -blob.area)


def _stray(to_background: Array, blobs: list[Blob]) -> float:
    off = to_background > _STRAY
    for blob in blobs:
        off &= cv2.dilate(blob.mask, _NEAR) == 0
    return float(off.mean())


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


def _track(body: list[Blob | None], others: list[Blob | None], frames: Array, background: str) -> Track:
    length = len(body)
    centres, radii, unlikeness = (np.full(size, np.nan) for size in ((length, 2), length, (length, len(SHAPES))))
    covers, places = [], []
    for index, (blob, other) in enumerate(zip(body, others, strict=True)):
        if blob is None:
            continue
        centres[index] = blob.centre
        if not (blob.mask[[0, -1]].any() or blob.mask[:, [0, -1]].any()):
            covers.append(coverage(frames[index], _background(background), blob.mask, other.mask if other else None))
            places.append(index)
    if covers:
        centres[places], radii[places], unlikeness[places] = measure(np.stack(covers))
    return Track(centres, [blob.colour if blob else "" for blob in body], radii, unlikeness)


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
    if frames.ndim != 4 or frames.shape[1:] != (FRAME_SIZE, FRAME_SIZE, 3):
        raise ValueError(
            f"The oracle reads frames of shape (frames, {FRAME_SIZE}, {FRAME_SIZE}, 3). Got {frames.shape}."
        )
    frames_lab = _lab(frames)
    backgrounds, light = find_backgrounds(frames_lab), np.median(frames_lab[..., 0], axis=(1, 2)).astype(float)
    known = [name for name in backgrounds if name]
    if not known:
        return Observation(backgrounds, [], np.zeros(len(frames), np.int64), np.ones(len(frames)), light)
    background = max(known, key=known.count)
    shown = [name == background for name in backgrounds]
    to_background = _distances(frames_lab, background)
    labels = _labels(frames_lab, to_background)
    # A frame that is no picture of the scene has no bodies.
    blobs = [find_blobs(label) if ok else [] for label, ok in zip(labels, shown, strict=True)]
    count = _count(blobs)
    bodies = _assign(blobs, count) if count else []
    alone: list[Blob | None] = [None] * len(frames)
    others = [bodies[1], bodies[0]] if count == 2 else [alone]
    tracks = [_track(body, other, frames, background) for body, other in zip(bodies, others, strict=False)]
    strangers = np.array([max(0, len(found) - count) for found in blobs])
    stray = np.array([_stray(*pair) for pair in zip(to_background, blobs, strict=True)])
    return Observation(backgrounds, tracks, strangers, stray, light)
