"""Renders lab scenes as video: anti-aliased signed-distance shapes on a wall and a floor, batched in torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from .motion import PENDULUM_PIVOT, trajectory
from .scene import Scene
from .world import BACKGROUNDS, COLOURS, FRAME_SIZE, GROUND_Y, NUM_FRAMES, SHAPES, SIZES

_SQUARE, _CROSS = SHAPES["square"][0], SHAPES["cross"][0]
_TRIANGLE = SHAPES["triangle"]


def _box(x: Tensor, y: Tensor, half_width: Tensor, half_height: Tensor) -> Tensor:
    return torch.maximum(x.abs() - half_width, y.abs() - half_height)


def signed_distance(shape: str, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Signed distance (px, negative inside) of points to a shape whose area is that of a disc of `radius`.

    Args:
        shape: Key of `world.SHAPES`.
        x: Offset to the right of the centroid in px.
        y: Offset downwards in px, same shape as `x`.
        radius: Equal-area radius in px, broadcastable to `x`.
    """
    if shape == "ball":
        return torch.hypot(x, y) - radius
    if shape == "square":
        return _box(x, y, radius * _SQUARE, radius * _SQUARE)
    if shape == "cross":
        arm, reach = radius * _CROSS / 3, radius * _CROSS
        return torch.minimum(_box(x, y, arm, reach), _box(x, y, reach, arm))
    # Upright equilateral triangle: below its two slanted sides and above its base.
    slanted = x.abs() * (3**0.5 / 2) - y / 2 - radius * _TRIANGLE[1]
    return torch.maximum(slanted, y - radius * _TRIANGLE[1])


def background_image(name: str, device: torch.device | str = "cpu") -> Tensor:
    """The empty background as float RGB in 0..1, shape `(3, 64, 64)`."""
    wall, floor = (torch.tensor(colour, device=device) / 255 for colour in BACKGROUNDS[name])
    rows = torch.arange(FRAME_SIZE, device=device) + 0.5
    # The horizon is a little above the line that bodies stand on, so that they stand in the room and not on an edge.
    share = torch.clamp(rows - (GROUND_Y - 6), 0, 1)[None, :, None]
    image = wall[:, None, None] * (1 - share) + floor[:, None, None] * share
    return image.expand(3, FRAME_SIZE, FRAME_SIZE)


def _thread(x: Tensor, y: Tensor, centre: Tensor) -> Tensor:
    """Coverage of the pendulum's thread between its pivot and `centre` (`(frames, 2)`), shape `(frames, H, W)`."""
    pivot = torch.tensor(PENDULUM_PIVOT, dtype=x.dtype, device=x.device)
    along = centre - pivot
    offset_x, offset_y = x - pivot[0], y - pivot[1]
    length = (along**2).sum(-1)[:, None, None]
    share = ((offset_x * along[:, 0, None, None] + offset_y * along[:, 1, None, None]) / length).clamp(0, 1)
    distance = torch.hypot(offset_x - share * along[:, 0, None, None], offset_y - share * along[:, 1, None, None])
    return (1.0 - distance).clamp(0, 1)


def rasterize(scenes: Sequence[Scene], tracks: Sequence[np.ndarray], device: torch.device | str = "cpu") -> Tensor:
    """Draws bodies at given places.

    Args:
        scenes: The scenes.
        tracks: For each scene the centroids from `motion.trajectory`, shape `(bodies, frames, 2)`, all with the same
            number of frames.
        device: Where to compute.

    Returns:
        RGB in 0..1, shape `(len(scenes), frames, 3, 64, 64)`.
    """
    axis = torch.arange(FRAME_SIZE, device=device) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    empty = {name: background_image(name, device) for name in BACKGROUNDS}
    frames = torch.stack([empty[scene.background] for scene in scenes])[:, None].repeat(1, tracks[0].shape[1], 1, 1, 1)
    for index in (i for i, scene in enumerate(scenes) if scene.motion == "swing"):
        centre = torch.as_tensor(tracks[index][0], dtype=torch.float32, device=device)
        frames[index] *= 1 - 0.8 * _thread(x, y, centre)[:, None]
    for slot, shape in product(range(2), SHAPES):
        chosen = [i for i, s in enumerate(scenes) if len(s.bodies) > slot and s.bodies[slot].shape == shape]
        if not chosen:
            continue
        bodies = [scenes[i].bodies[slot] for i in chosen]
        centre = torch.as_tensor(np.stack([tracks[i][slot] for i in chosen]), dtype=torch.float32, device=device)
        radius = torch.tensor([SIZES[b.size] for b in bodies], device=device)[:, None, None, None]
        offset_x, offset_y = x - centre[..., 0, None, None], y - centre[..., 1, None, None]
        cover = (0.5 - signed_distance(shape, offset_x, offset_y, radius)).clamp(0, 1)[:, :, None]
        colour = torch.tensor([COLOURS[b.colour] for b in bodies], device=device)[:, None, :, None, None] / 255
        frames[chosen] = frames[chosen] * (1 - cover) + colour * cover
    return frames


def render_batch(
    scenes: Sequence[Scene],
    rng: np.random.Generator,
    num_frames: int = NUM_FRAMES,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Renders scenes, each with its own variation of start and speed.

    Args:
        scenes: The scenes.
        rng: Source of the variation.
        num_frames: Frames per clip.
        device: Where to compute.

    Returns:
        RGB in 0..1, shape `(len(scenes), num_frames, 3, 64, 64)`.
    """
    return rasterize(scenes, [trajectory(scene, rng, num_frames) for scene in scenes], device)
