"""Intervals for means over prompts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap

RESAMPLES = 10_000
LEVEL = 0.95
Floats = NDArray[np.float64]


def bootstrap_means(values: ArrayLike, seed: int = 0) -> Floats:
    """Means of resampled prompts, the same resamples in every row, so that differences and ratios of rows stay paired.

    Args:
        values: One row per arm, one column per prompt, `(arms, prompts)`.
        seed: Seed of the resamples.

    Returns:
        `(arms, RESAMPLES)`.

    Raises:
        ValueError: If there is no prompt.
    """
    array = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if array.size == 0:
        raise ValueError("An interval needs at least one value. Got none.")
    if array.shape[1] == 1:
        return np.repeat(array, RESAMPLES, axis=1)
    drawn = bootstrap(
        (array,), np.mean, axis=1, n_resamples=RESAMPLES, method="percentile", rng=seed, batch=500, vectorized=True
    )
    return np.asarray(drawn.bootstrap_distribution, dtype=np.float64)


def percentile_interval(drawn: Floats, level: float = LEVEL) -> Floats:
    """Percentile interval of a resampled statistic along the last axis; lower and upper end are the new last axis."""
    rest = (1 - level) / 2
    return np.moveaxis(np.quantile(drawn, [rest, 1 - rest], axis=-1), 0, -1)


def bootstrap_interval(values: ArrayLike, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over prompts.

    Args:
        values: One value per prompt, shape `(prompts,)`.
        level: Share of the interval.
        seed: Seed of the resamples.

    Returns:
        Lower and upper end. All-equal values, or a single one, give that value twice.

    Raises:
        ValueError: If `values` is empty.
    """
    low, high = percentile_interval(bootstrap_means(values, seed)[0], level)
    return float(low), float(high)


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the ratio of two means over the same prompts, resampled together.

    Args:
        numerators: One value per prompt.
        denominators: One value per prompt, same order.
        seed: Seed of the resamples.
    """
    top, bottom = bootstrap_means(np.stack([np.asarray(numerators, float), np.asarray(denominators, float)]), seed)
    low, high = percentile_interval(top[bottom != 0] / bottom[bottom != 0])
    return float(low), float(high)
