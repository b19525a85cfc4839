"""Broken videos of true scenes: what a strict oracle must not let pass. Tests and the measuring script share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .motion import trajectory
from .render import background_image, rasterize
from .scene import Body, Scene
from .world import COLOURS, FRAME_SIZE, NUM_FRAMES, SHAPES, SIZES

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Original:
    """A true video with what it was drawn from.

    Attributes:
        scene: The scene.
        track: Its bodies' centroids in px, shape `(bodies, frames, 2)`.
        rng: Chooses what is broken where.
    """

    scene: Scene
    track: NDArray[np.float64]
    rng: np.random.Generator

    def draw(self, **changes: str) -> Frames:
        """The video, with all bodies' attributes changed to those given."""
        bodies = tuple(replace(body, **changes) for body in self.scene.bodies)
        return _draw(replace(self.scene, bodies=bodies), self.track)

    def another(self, options: dict[str, object], *taken: str) -> str:
        """One of some names that none of the bodies has."""
        names = [name for name in options if name not in taken]
        return names[int(self.rng.integers(len(names)))]


def _draw(scene: Scene, track: NDArray[np.float64]) -> Frames:
    return np.ascontiguousarray(rasterize([scene], [track])[0].permute(0, 2, 3, 1).numpy())


def _every_second(first: Frames, second: Frames) -> Frames:
    odd = np.arange(len(first)) % 2 == 1
    return np.where(odd[:, None, None, None], second, first)


def _empty(scene: Scene) -> Frames:
    return background_image(scene.background).permute(1, 2, 0).numpy()


def _other(original: Original, kind: str, options: dict[str, object]) -> Frames:
    taken = [getattr(body, kind) for body in original.scene.bodies]
    return original.draw(**{kind: original.another(options, *taken)})


def black_every_second(original: Original) -> Frames:
    """Every second frame is black."""
    return _every_second(frames := original.draw(), np.zeros_like(frames))


def dark_every_second(original: Original) -> Frames:
    """Every second frame is a fifth darker."""
    return _every_second(frames := original.draw(), frames * np.float32(0.8))


def half_dark_every_second(original: Original) -> Frames:
    """The left half of every second frame is a fifth darker."""
    frames = original.draw()
    darker = frames.copy()
    darker[:, :, : FRAME_SIZE // 2] *= np.float32(0.8)
    return _every_second(frames, darker)


def flickering_bodies(original: Original) -> Frames:
    """The bodies of every second frame are a fifth darker."""
    frames, empty = original.draw(), _empty(original.scene)
    bodies = np.abs(frames - empty).max(-1, keepdims=True) > 0
    return _every_second(frames, np.where(bodies, frames * np.float32(0.8), frames))


def tinted_every_second(original: Original) -> Frames:
    """Every second frame is a tenth redder and less blue."""
    frames = original.draw()
    return _every_second(frames, np.clip(frames * np.array([1.1, 1.0, 0.9], np.float32), 0, 1))


def noise_tail(original: Original) -> Frames:
    """The last 9 frames are noise."""
    frames = original.draw()
    frames[-9:] = original.rng.random(frames[-9:].shape, np.float32)
    return frames


def shape_flicker(original: Original) -> Frames:
    """In every second frame the bodies have another shape."""
    return _every_second(original.draw(), _other(original, "shape", dict(SHAPES)))


def colour_flicker(original: Original) -> Frames:
    """In every second frame the bodies have another colour."""
    return _every_second(original.draw(), _other(original, "colour", dict(COLOURS)))


def size_flicker(original: Original) -> Frames:
    """In every second frame the bodies have another size."""
    return _every_second(original.draw(), _other(original, "size", dict(SIZES)))


def _far_place(original: Original, reach: float) -> NDArray[np.float64]:
    """The place at least `reach` px from the edges that is farthest from where the bodies come."""
    axis = np.linspace(reach, FRAME_SIZE - reach, 27)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    ways = np.linalg.norm(grid[:, None] - original.track.reshape(1, -1, 2), axis=-1).min(1)
    return np.asarray(grid[int(ways.argmax())])


def same_colour_clone(original: Original) -> Frames:
    """A small ball of the first body's colour stands in the picture, farthest from where the others come."""
    scene, frames = original.scene, original.draw()
    place = _far_place(original, SIZES["small"] + 0.5)
    clone = Scene((Body("ball", scene.bodies[0].colour, "small"),), scene.background, "rest")
    drawn = _draw(clone, np.broadcast_to(place, (1, len(frames), 2)))
    changed = np.abs(drawn - _empty(scene)).max(-1, keepdims=True) > 0
    return np.where(changed, drawn, frames)


def foreign_square(original: Original) -> Frames:
    """A square of 10 x 10 px stands there, black or white, whichever the background is less like."""
    frames = original.draw()
    x, y = _far_place(original, 6).astype(int)
    place = (slice(None), slice(y - 5, y + 5), slice(x - 5, x + 5))
    frames[place] = float(_empty(original.scene)[place[1:]].mean() < 0.5)
    return frames


def frozen(original: Original) -> Frames:
    """The middle frame all along."""
    frames = original.draw()
    return np.repeat(frames[len(frames) // 2][None], len(frames), axis=0)


def shuffled(original: Original) -> Frames:
    """The frames in another order."""
    return original.draw()[original.rng.permutation(original.track.shape[1])]


def swapped(original: Original) -> Frames:
    """Two pairs of neighbouring frames have changed places."""
    order = np.arange(original.track.shape[1])
    order[[3, 4, 10, 11]] = [4, 3, 11, 10]
    return original.draw()[order]


def stuttering(original: Original) -> Frames:
    """The first half with every frame doubled."""
    frames = original.draw()
    return frames[np.arange(len(frames)) // 2]


def held_for_three(original: Original) -> Frames:
    """Every third frame, three times."""
    frames = original.draw()
    return frames[np.arange(len(frames)) // 3 * 3]


def stopping(original: Original) -> Frames:
    """From the middle frame on nothing moves any more."""
    frames = original.draw()
    return frames[np.minimum(np.arange(len(frames)), len(frames) // 2)]


def starting_late(original: Original) -> Frames:
    """Up to the middle frame nothing moves."""
    frames = original.draw()
    return frames[np.maximum(np.arange(len(frames)), len(frames) // 2)]


def vanishing(original: Original) -> Frames:
    """The bodies are gone for five frames."""
    frames = original.draw()
    frames[6:11] = _empty(original.scene)
    return frames


def teleporting(original: Original) -> Frames:
    """From the middle frame on everything is 24 px further on, past the edge and in at the other side."""
    frames = original.draw()
    frames[len(frames) // 2 :] = np.roll(frames[len(frames) // 2 :], FRAME_SIZE * 3 // 8, axis=2)
    return frames


def inverted(original: Original) -> Frames:
    """The negative."""
    return 1 - original.draw()


def partly_inverted(original: Original) -> Frames:
    """The left third is a negative."""
    frames = original.draw()
    frames[:, :, : FRAME_SIZE // 3] = 1 - frames[:, :, : FRAME_SIZE // 3]
    return frames


DEGENERATE: dict[str, Callable[[Original], Frames]] = {
    make.__name__: make
    for make in (
        black_every_second, noise_tail, shape_flicker, same_colour_clone, frozen, colour_flicker, size_flicker, shuffled,
        swapped, stuttering, held_for_three, stopping, starting_late, dark_every_second, half_dark_every_second,
        flickering_bodies, tinted_every_second, vanishing, teleporting, inverted, partly_inverted, foreign_square,
    )
}  # fmt: skip
"""Ways to break a video, by name."""
NEEDS_MOTION = frozenset({"frozen", "shuffled", "swapped", "stuttering", "held_for_three", "stopping", "starting_late"})
"""Those that leave a video in which nothing moves as it was."""
_LEFT = 4.0
"""Way in px that a body must have before it in the middle frame for a stop to be one; one that slides to a halt has not."""


def degenerate(name: str, scene: Scene, rng: np.random.Generator) -> Frames | None:
    """A broken video of a scene, RGB in 0..1, shape `(17, 64, 64, 3)`; None where this way would break nothing.

    Args:
        name: Key of `DEGENERATE`.
        scene: The scene.
        rng: Source of the scene's variation, and of what is broken where.
    """
    if name in NEEDS_MOTION and scene.motion in ("rest", "beside"):
        return None
    track = trajectory(scene, rng, NUM_FRAMES)
    if name in ("stopping", "starting_late") and np.ptp(track[:, NUM_FRAMES // 2 :], axis=1).max() < _LEFT:
        return None
    return DEGENERATE[name](Original(scene, track, rng))
