"""Recognizes the law a tracked body obeys: each law is fitted to the track, the best explanation wins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .motion import bouncing_height
from .world import DIRECTED_MOTIONS, FPS, GRAVITY, RESTITUTION, SINGLE_MOTIONS

Points = NDArray[np.float64]


def _residual(values: Points, *columns: Points) -> tuple[float, Points]:
    """Root mean square of a linear fit of `values` by `columns` (a constant is added), and the coefficients."""
    design = np.stack([np.ones_like(values), *columns], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, values, rcond=None)
    return float(np.sqrt(np.mean((values - design @ coefficients) ** 2))), coefficients.astype(np.float64)


def _best(options: list[tuple[float, bool]]) -> float:
    return min((error for error, plausible in options if plausible), default=float("inf"))


def _joint(error_x: float, error_y: float) -> float:
    return float(np.hypot(error_x, error_y))


def _rest(t: Points, x: Points, y: Points) -> float:
    return _joint(float(x.std()), float(y.std()))


def _roll(t: Points, x: Points, y: Points) -> float:
    error, slope = _residual(x, t)
    return _best([(_joint(error, float(y.std())), abs(slope[1]) * 2 > 12)])


def _slide(t: Points, x: Points, y: Points) -> float:
    options = []
    for stop in np.arange(0.8, 1.7, 0.1):
        error, slope = _residual(x, (1 - np.clip(t / stop, 0, 1)) ** 2)
        options.append((_joint(error, float(y.std())), abs(slope[1]) > 10))
    return _best(options)


def _vertical(sign: int) -> Callable[[Points, Points, Points], float]:
    def fit(t: Points, x: Points, y: Points) -> float:
        error, slope = _residual(y, t)
        return _best([(_joint(float(x.std()), error), sign * slope[1] * 2 > 10)])

    return fit


def _fall(t: Points, x: Points, y: Points) -> float:
    options = []
    for height in np.arange(20, 52, 2.0):
        for speed in (0.85, 1.0, 1.15):
            error, scale = _residual(y, bouncing_height(t, height, GRAVITY * speed, RESTITUTION))
            options.append((_joint(float(x.std()), error), -1.3 < scale[1] < -0.7))
    return _best(options)


def _throw(t: Points, x: Points, y: Points) -> float:
    options = []
    for flight in np.arange(1.3, 2.1, 0.05):
        until = np.minimum(t, flight)
        error_x, slope = _residual(x, until)
        error_y, bend = _residual(y, until * (flight - until))
        plausible = abs(slope[1]) * flight > 12 and -bend[1] * flight**2 / 4 > 10
        options.append((_joint(error_x, error_y), plausible))
    return _best(options)


def _waves(t: Points, periods: Points, harmonic: int = 1) -> list[tuple[Points, Points]]:
    return [(np.cos(2 * np.pi * harmonic * t / p), np.sin(2 * np.pi * harmonic * t / p)) for p in periods]


def _swing(t: Points, x: Points, y: Points) -> float:
    periods = np.arange(1.3, 2.0, 0.05)
    options = []
    for first, second in zip(_waves(t, periods), _waves(t, periods, 2), strict=True):
        error_x, wave_x = _residual(x, *first)
        error_y, wave_y = _residual(y, *second)
        plausible = np.hypot(*wave_x[1:]) > 9 and np.hypot(*wave_y[1:]) < 7 and wave_x[0] > 24 and wave_x[0] < 40
        options.append((_joint(error_x, error_y), bool(plausible)))
    return _best(options)


def _circle(t: Points, x: Points, y: Points) -> float:
    options = []
    for wave in _waves(t, np.arange(1.6, 2.5, 0.05)):
        error_x, wave_x = _residual(x, *wave)
        error_y, wave_y = _residual(y, *wave)
        plausible = np.hypot(*wave_x[1:]) > 9 and np.hypot(*wave_y[1:]) > 9
        options.append((_joint(error_x, error_y), bool(plausible)))
    return _best(options)


def _oscillation(along_x: bool) -> Callable[[Points, Points, Points], float]:
    def fit(t: Points, x: Points, y: Points) -> float:
        moving, still = (x, y) if along_x else (y, x)
        options = []
        for wave in _waves(t, np.arange(0.8, 1.25, 0.03)):
            error, amplitude = _residual(moving, *wave)
            options.append((_joint(error, float(still.std())), bool(np.hypot(*amplitude[1:]) > 4)))
        return _best(options)

    return fit


_FITS: dict[str, Callable[[Points, Points, Points], float]] = {
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
    t = np.arange(len(centres))[seen] / FPS
    x, y = centres[seen].T
    return {law: _FITS[law](t, x, y) for law in SINGLE_MOTIONS}


def recognize_law(centres: Points) -> tuple[str, float]:
    """The law that explains a track best and its residual in px; `("", inf)` where none does within 6 px."""
    residuals = law_residuals(centres)
    if residuals["rest"] < 2 * _NOISE:
        return "rest", residuals["rest"]
    residuals.pop("rest")
    law = min(residuals, key=lambda name: residuals[name])
    return (law, residuals[law]) if residuals[law] < 6.0 else ("", float("inf"))


def direction_of(centres: Points, law: str) -> str:
    """`"left_to_right"` or `"right_to_left"` for laws that have a direction, else empty."""
    x = centres[np.isfinite(centres[:, 0]), 0]
    if law not in DIRECTED_MOTIONS or len(x) < 2:
        return ""
    return "left_to_right" if x[-3:].mean() > x[:3].mean() else "right_to_left"
