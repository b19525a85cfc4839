"""Recognizes the law a tracked body obeys: each law is fitted to the track, the best explanation wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from .motion import bouncing_height
from .world import DIRECTED_MOTIONS, FPS, GRAVITY, RESTITUTION, SINGLE_MOTIONS

Points = NDArray[np.float64]


def _waves(periods: Points, harmonic: int = 1) -> list[Callable[[Points], list[Points]]]:
    def wave(period: float) -> Callable[[Points], list[Points]]:
        return lambda t: [f(2 * np.pi * harmonic * t / period) for f in (np.cos, np.sin)]

    return [wave(period) for period in periods]


_FLIGHTS, _STOPS, _HITS = np.arange(1.05, 2.1, 0.05), np.arange(0.8, 1.7, 0.1), np.arange(0.4, 1.2, 0.05)
_DROPS = list(product(np.arange(20, 52, 2.0), (0.85, 1.0, 1.15)))
# Each course has a free parameter that is not linear; a law is tried with each of its values.
_COURSES: dict[str, list[Callable[[Points], list[Points]]]] = {
    "line": [lambda t: [t]],
    "brake": [lambda t, stop=stop: [(1 - np.clip(t / stop, 0, 1)) ** 2] for stop in _STOPS],  # type: ignore[misc]
    "bounce": [
        lambda t, height=height, speed=speed: [bouncing_height(t, height, GRAVITY * speed, RESTITUTION)]  # type: ignore[misc]
        for height, speed in _DROPS
    ],
    "flight": [lambda t, end=end: [np.minimum(t, end)] for end in _FLIGHTS],  # type: ignore[misc]
    "arc": [lambda t, end=end: [np.minimum(t, end) * (end - np.minimum(t, end))] for end in _FLIGHTS],  # type: ignore[misc]
    "pendulum": _waves(np.arange(1.3, 2.0, 0.05)),
    "pendulum_height": _waves(np.arange(1.3, 2.0, 0.05), 2),
    "turn": _waves(np.arange(1.6, 2.5, 0.05)),
    "beat": _waves(np.arange(0.8, 1.25, 0.03)),
    "until_hit": [lambda t, hit=hit: [np.minimum(t - hit, 0)] for hit in _HITS],  # type: ignore[misc]
    "from_hit": [lambda t, hit=hit: [np.maximum(t - hit, 0)] for hit in _HITS],  # type: ignore[misc]
}


@lru_cache(maxsize=256)
def _designs(course: str, frames: tuple[int, ...]) -> tuple[Points, Points]:
    """Design matrices of a course at some frames, `(values, frames, columns)`, and their pseudoinverses."""
    t = np.array(frames) / FPS
    designs = np.stack([np.stack([np.ones_like(t), *columns(t)], axis=1) for columns in _COURSES[course]])
    return designs, np.linalg.pinv(designs)


@dataclass(frozen=True)
class _Path:
    """A coordinate of a track where it was seen."""

    frames: tuple[int, ...]
    values: Points

    def fit(self, course: str) -> tuple[Points, Points]:
        """For each value of a course's parameter the residual (root mean square, px) and the coefficients."""
        designs, inverses = _designs(course, self.frames)
        coefficients = inverses @ self.values
        left = self.values - (designs @ coefficients[..., None])[..., 0]
        return np.sqrt((left**2).mean(1)), coefficients

    @property
    def spread(self) -> float:
        """Standard deviation in px."""
        return float(self.values.std())


def _best(errors: Points, plausible: NDArray[np.bool_]) -> float:
    return float(np.where(plausible, errors, np.inf).min())


def _rest(x: _Path, y: _Path) -> float:
    return float(np.hypot(x.spread, y.spread))


def _roll(x: _Path, y: _Path) -> float:
    error, slope = x.fit("line")
    return _best(np.hypot(error, y.spread), np.abs(slope[:, 1]) * 2 > 12)


def _slide(x: _Path, y: _Path) -> float:
    error, slope = x.fit("brake")
    return _best(np.hypot(error, y.spread), np.abs(slope[:, 1]) > 10)


def _vertical(sign: int) -> Callable[[_Path, _Path], float]:
    def fit(x: _Path, y: _Path) -> float:
        error, slope = y.fit("line")
        return _best(np.hypot(x.spread, error), sign * slope[:, 1] * 2 > 10)

    return fit


def _fall(x: _Path, y: _Path) -> float:
    error, scale = y.fit("bounce")
    return _best(np.hypot(x.spread, error), (scale[:, 1] > -1.3) & (scale[:, 1] < -0.7))


def _throw(x: _Path, y: _Path) -> float:
    error_x, slope = x.fit("flight")
    error_y, bend = y.fit("arc")
    return _best(
        np.hypot(error_x, error_y), (np.abs(slope[:, 1]) * _FLIGHTS > 12) & (-bend[:, 1] * _FLIGHTS**2 / 4 > 10)
    )


def _amplitude(wave: Points) -> Points:
    return np.asarray(np.hypot(wave[:, 1], wave[:, 2]))


def _swing(x: _Path, y: _Path) -> float:
    error_x, wave_x = x.fit("pendulum")
    error_y, wave_y = y.fit("pendulum_height")
    middle = (wave_x[:, 0] > 24) & (wave_x[:, 0] < 40)
    return _best(np.hypot(error_x, error_y), (_amplitude(wave_x) > 9) & (_amplitude(wave_y) < 7) & middle)


def _circle(x: _Path, y: _Path) -> float:
    (error_x, wave_x), (error_y, wave_y) = x.fit("turn"), y.fit("turn")
    return _best(np.hypot(error_x, error_y), (_amplitude(wave_x) > 9) & (_amplitude(wave_y) > 9))


def _oscillation(along_x: bool) -> Callable[[_Path, _Path], float]:
    def fit(x: _Path, y: _Path) -> float:
        moving, still = (x, y) if along_x else (y, x)
        error, wave = moving.fit("beat")
        return _best(np.hypot(error, still.spread), _amplitude(wave) > 4)

    return fit


_FITS: dict[str, Callable[[_Path, _Path], float]] = {
    "fall": _fall,
    "roll": _roll,
    "slide": _slide,
    "rise": _vertical(-1),
    "sink": _vertical(+1),
    "swing": _swing,
    "throw": _throw,
    "rest": _rest,
    "circle": _circle,
    "bob": _oscillation(along_x=False),
    "shuttle": _oscillation(along_x=True),
}
_NOISE = 0.6
"""Error in px of a centroid on generated frames; below it, a law with fewer parameters is preferred."""
LIMIT = 2.5
"""Residual in px beyond which a track obeys no law. Rendered tracks stay under 1, generated ones under 1.3."""


def law_residuals(centres: Points) -> dict[str, float]:
    """How badly each law explains a track.

    Args:
        centres: Centroids in px, shape `(frames, 2)`, NaN where unseen.

    Returns:
        Root mean square distance in px between track and best fit of each single-body law; infinite where the fit is
        not that law in kind (a "roll" that stays, say) or fewer than 8 frames are seen.
    """
    seen = np.isfinite(centres[:, 0])
    if seen.sum() < 8:
        return dict.fromkeys(SINGLE_MOTIONS, float("inf"))
    frames = tuple(np.flatnonzero(seen).tolist())
    x, y = (_Path(frames, values) for values in centres[seen].T)
    return {law: _FITS[law](x, y) for law in SINGLE_MOTIONS}


def collision_residual(first: Points, second: Points) -> float:
    """How badly "the first runs into the second and stays, the second runs on" explains two tracks, in px.

    Args:
        first: Centroids of the body that moves first, shape `(frames, 2)`, NaN where unseen.
        second: The same of the body that is hit.
    """
    seen = np.isfinite(first[:, 0]) & np.isfinite(second[:, 0])
    if seen.sum() < 8:
        return float("inf")
    frames = tuple(np.flatnonzero(seen).tolist())
    error_1, speed_1 = _Path(frames, first[seen, 0]).fit("until_hit")
    error_2, speed_2 = _Path(frames, second[seen, 0]).fit("from_hit")
    moved_1, moved_2 = speed_1[:, 1] * _HITS, speed_2[:, 1] * (2 - _HITS)
    still = max(float(first[seen, 1].std()), float(second[seen, 1].std()))
    plausible = (np.sign(moved_1) == np.sign(moved_2)) & (np.abs(moved_1) > 4) & (np.abs(moved_2) > 4)
    return _best(np.sqrt((error_1**2 + error_2**2) / 2 + still**2), plausible)


def recognize_law(centres: Points) -> tuple[str, float]:
    """The law that explains a track best and its residual in px; `("", inf)` where none does within `LIMIT`."""
    residuals = law_residuals(centres)
    if residuals["rest"] < 2 * _NOISE:
        return "rest", residuals["rest"]
    residuals.pop("rest")
    law = min(residuals, key=lambda name: residuals[name])
    return (law, residuals[law]) if residuals[law] < LIMIT else ("", float("inf"))


def direction_of(centres: Points, law: str) -> str:
    """`"left_to_right"` or `"right_to_left"` for laws that have a direction, else empty."""
    x = centres[np.isfinite(centres[:, 0]), 0]
    if law not in DIRECTED_MOTIONS or len(x) < 2:
        return ""
    return "left_to_right" if x[-3:].mean() > x[:3].mean() else "right_to_left"
