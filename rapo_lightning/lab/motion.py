"""Trajectories of the lab's motions: where each body is in each frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .scene import Scene
from .world import FPS, FRAME_SIZE, GRAVITY, GROUND_Y, NUM_FRAMES, RESTITUTION, SHAPES, SIZES

FloatArray = NDArray[np.float64]
PENDULUM_PIVOT = (FRAME_SIZE / 2, 3.0)


def bouncing_height(times: FloatArray, height: float, gravity: float, restitution: float) -> FloatArray:
    """Height above the lowest point of a body dropped from `height` at time 0 that bounces.

    Args:
        times: Times in s, any shape.
        height: Height of the drop in px.
        gravity: Acceleration in px/s^2.
        restitution: Share of the speed kept at each bounce.

    Returns:
        Heights in px, same shape as `times`.
    """
    impact = np.sqrt(2 * height / gravity)
    result = height - gravity * times**2 / 2
    start, speed = impact, gravity * impact * restitution
    for _ in range(4):
        since = times - start
        result = np.where(since >= 0, speed * since - gravity * since**2 / 2, result)
        start, speed = start + 2 * speed / gravity, speed * restitution
    return np.maximum(result, 0.0)


def _single(scene: Scene, times: FloatArray, rng: np.random.Generator) -> FloatArray:
    body = scene.bodies[0]
    radius = SIZES[body.size]
    up, down, side = (reach * radius for reach in SHAPES[body.shape])
    floor, middle = GROUND_Y - down, FRAME_SIZE / 2
    jitter = float(rng.uniform(-3, 3))
    speed = float(rng.uniform(0.9, 1.1))
    x, y = np.full_like(times, middle + jitter), np.full_like(times, floor)
    if scene.motion == "fall":
        top = up + 2 + abs(jitter) / 2
        y = floor - bouncing_height(times, floor - top, GRAVITY * speed, RESTITUTION)
    elif scene.motion == "roll":
        x = side + 2 + abs(jitter) + (FRAME_SIZE - 2 * side - 8) / 2.0 * speed * times
    elif scene.motion == "slide":
        stop = 1.2 / speed
        path = (FRAME_SIZE - 2 * side) * 0.68
        left = 1 - np.clip(times / stop, 0, 1)
        x = side + 2 + abs(jitter) + path * (1 - left**2)
    elif scene.motion == "rise":
        y = floor - (floor - up - 4) / 2.0 * speed * times
    elif scene.motion == "sink":
        y = up + 2 + (floor - up - 4) / 2.0 * speed * times
    elif scene.motion == "swing":
        length = 28.0
        angle = 0.75 * np.cos(2 * np.pi * times / (1.6 / speed) + jitter * 0.1)
        x, y = PENDULUM_PIVOT[0] + length * np.sin(angle), PENDULUM_PIVOT[1] + length * np.cos(angle)
    elif scene.motion == "throw":
        height = floor - up - 3 - abs(jitter)
        flight = 2 * np.sqrt(2 * height / GRAVITY)
        until = np.minimum(times, flight)
        y = floor - np.maximum(np.sqrt(2 * GRAVITY * height) * until - GRAVITY * until**2 / 2, 0)
        x = side + 2 + (FRAME_SIZE - 2 * side - 6) / flight * until
    elif scene.motion == "circle":
        angle = 2 * np.pi * times / (2.0 / speed) + jitter * 0.1
        x, y = middle + 16 * np.cos(angle), 28 + 16 * np.sin(angle)
    elif scene.motion == "bob":
        y = 28 + 9 * np.sin(2 * np.pi * times / (1.0 / speed))
    elif scene.motion == "shuttle":
        x = middle + 11 * np.sin(2 * np.pi * times / (1.0 / speed))
    return np.stack([x, y], axis=-1)[None]


def _double(scene: Scene, times: FloatArray, rng: np.random.Generator) -> FloatArray:
    first, second = scene.bodies
    jitter = float(rng.uniform(-2, 2))
    speed = float(rng.uniform(0.9, 1.1))
    reach_1, reach_2 = (SHAPES[body.shape][2] * SIZES[body.size] for body in scene.bodies)
    x_1, x_2 = np.full_like(times, 17.0 + jitter), np.full_like(times, 47.0 + jitter)
    if scene.motion == "collide":
        # The hit happens after 0.75 s wherever the bodies' sizes put it; equal masses exchange their velocity.
        hit, rest = 0.75, 41.5 + jitter
        contact = rest - reach_1 - reach_2
        x_1 = contact + (contact - reach_1 - 1) / hit * speed * np.minimum(times - hit, 0)
        x_2 = rest + (FRAME_SIZE - reach_2 - 2 - rest) / 1.25 * np.maximum(times - hit, 0)
    tracks = []
    for body, x in ((first, x_1), (second, x_2)):
        y = np.full_like(times, GROUND_Y - SHAPES[body.shape][1] * SIZES[body.size])
        tracks.append(np.stack([x, y], axis=-1))
    return np.stack(tracks)


def trajectory(scene: Scene, rng: np.random.Generator, num_frames: int = NUM_FRAMES) -> FloatArray:
    """Positions of a scene's bodies, with start and speed varied a little.

    Args:
        scene: The scene.
        rng: Source of the variation (about 3 px and 10 % of the speed).
        num_frames: Number of frames at `world.FPS`.

    Returns:
        Centroids in px, shape `(bodies, num_frames, 2)`, x to the right and y downwards.
    """
    times = np.arange(num_frames) / FPS
    track = (_single if len(scene.bodies) == 1 else _double)(scene, times, rng)
    if scene.direction == "right_to_left":
        track[..., 0] = FRAME_SIZE - track[..., 0]
    return track
