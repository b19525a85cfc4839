"""Finds what stands before the background in the frames of a lab video: labels of colour, and blobs (OpenCV)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .render import background_image
from .world import BACKGROUNDS, COLOURS

Array = NDArray[np.float32]
Mask = NDArray[np.uint8]
MIN_AREA = 40
"""Pixels below which a blob is an artefact: a third of the smallest body. The lab's own choice, as all limits here."""
_MAX_AREA = 600
"""Pixels above which a blob is no body: half more than the largest one."""
_BACKGROUND_LIMIT = 16.0
"""Largest typical distance (CIE Lab, summed over channels) between a frame and its background; a black frame is 33 from the
darkest one, generated frames are under 3."""
OPENING, _CORE = np.ones((3, 3), np.uint8), 9
"""What thinner things vanish in, and the pixels inside a blob from which on a second colour makes it two bodies."""


@dataclass(frozen=True)
class Blob:
    """One body in one frame: its hard mask and the name of its colour."""

    mask: Mask
    area: int
    colour: str
    centre: tuple[float, float]


def lab_of(image: Array) -> Array:
    """CIE Lab of RGB in 0..1; any shape that ends in 3."""
    flat = np.ascontiguousarray(image.reshape(1, -1, 3), dtype=np.float32)
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2LAB), dtype=np.float32).reshape(image.shape)


@cache
def _palette() -> Array:
    return lab_of((np.array(list(COLOURS.values())) / 255).astype(np.float32))


@cache
def empty_picture(name: str) -> Array:
    """A background without bodies, RGB in 0..1, shape `(64, 64, 3)`."""
    return np.ascontiguousarray(background_image(name).permute(1, 2, 0).numpy())


@cache
def _backgrounds_lab() -> Array:
    return np.stack([lab_of(empty_picture(name)) for name in BACKGROUNDS])


def background_lab(name: str) -> Array:
    """A background without bodies in CIE Lab, shape `(64, 64, 3)`."""
    return np.asarray(_backgrounds_lab()[list(BACKGROUNDS).index(name)])


def find_backgrounds(frames_lab: Array) -> list[str]:
    """The background whose empty picture each frame comes nearest to, robust to bodies in front; empty if none does."""
    # Every second pixel is enough for a median.
    frames, empty = frames_lab[:, ::2, ::2], _backgrounds_lab()[:, ::2, ::2]
    distances = np.stack([np.median(np.abs(frames - image).sum(-1), axis=(1, 2)) for image in empty])
    names = np.array(list(BACKGROUNDS))[distances.argmin(0)]
    return [str(name) if near < _BACKGROUND_LIMIT else "" for name, near in zip(names, distances.min(0), strict=True)]


def background_distances(frames_lab: Array, background: str) -> Array:
    """Distance of each pixel from the background in CIE Lab, `(frames, 64, 64)`."""
    offset = frames_lab - background_lab(background)
    return np.asarray(np.sqrt(np.einsum("fhwc,fhwc->fhw", offset, offset)))


def label_pixels(frames_lab: Array, to_background: Array) -> NDArray[np.int64]:
    """For each pixel the index of the palette colour it belongs to, -1 for background; shape `(frames, 64, 64)`."""
    labels = np.full(to_background.shape, -1)
    # Only the few pixels that are clearly off the wall are compared with the palette.
    candidates = to_background > 12
    distances = np.sqrt(((frames_lab[candidates][:, None] - _palette()) ** 2).sum(-1))
    # Nearer to a body's colour than to the wall: the edge pixels fall to either side evenly.
    labels[candidates] = np.where(distances.min(-1) < to_background[candidates], distances.argmin(-1), -1)
    return labels


def components(mask: Mask) -> Iterator[tuple[Mask, int, tuple[float, float]]]:
    """The connected parts of at least `MIN_AREA` pixels: mask, area and centre in px."""
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
    foreground = cv2.morphologyEx((labels >= 0).astype(np.uint8), cv2.MORPH_OPEN, OPENING)
    for mask, area, centre in components(np.asarray(foreground, np.uint8)):
        core = cv2.erode(mask, OPENING).astype(bool)
        counts = np.bincount(labels[core], minlength=len(names))
        first, second = np.argsort(counts)[::-1][:2]
        if counts[second] < max(_CORE, 0.12 * counts.sum()):
            found.append(Blob(mask, area, names[first], centre))
            continue
        for index in (first, second):
            part = cv2.morphologyEx((mask.astype(bool) & (labels == index)).astype(np.uint8), cv2.MORPH_OPEN, OPENING)
            found += [Blob(*piece[:2], names[index], piece[2]) for piece in components(np.asarray(part, np.uint8))]
    return sorted((blob for blob in found if blob.area <= _MAX_AREA), key=lambda blob: -blob.area)
