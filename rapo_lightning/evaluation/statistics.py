"""Intervals for means over prompts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap


def bootstrap_interval(values: ArrayLike, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over prompts.

    Args:
        values: One value per prompt, shape `(prompts,)`.
        level: Share of the interval.
        seed: Seed of the 10,000 resamples.

    Returns:
        Lower and upper end. All-equal values, or a single one, give that value twice.

    Raises:
        ValueError: If `values` is empty.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("An interval needs at least one value. Got none.")
    if np.ptp(array) == 0:
        return float(array[0]), float(array[0])
    result = bootstrap(
        (array,), np.mean, confidence_level=level, n_resamples=10_000, method="percentile", rng=seed, batch=500
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the ratio of two means over the same prompts, resampled together.

    Args:
        numerators: One value per prompt.
        denominators: One value per prompt, same order.
        seed: Seed of the 10,000 resamples.
    """
    pairs = np.stack([np.asarray(numerators, float), np.asarray(denominators, float)])
    if pairs.shape[1] < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    chosen = rng.integers(pairs.shape[1], size=(10_000, pairs.shape[1]))
    top, bottom = pairs[0][chosen].mean(axis=1), pairs[1][chosen].mean(axis=1)
    ratios = top[bottom != 0] / bottom[bottom != 0]
    return float(np.quantile(ratios, 0.025)), float(np.quantile(ratios, 0.975))
