"""Graded answers: a score is the mean over the probabilities of the numbers 1 to 5, never a digit read off prose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..prompting.judging import SCORES

CHOICES = [str(score) for score in SCORES]
"""What an answer may go on with."""
_ENOUGH = 0.5
"""Least probability of the numbers together for which their mean says anything (ours)."""
FINE = 0.75
"""Score from which nothing is said to be wrong (ours): 4 of 5."""


def graded(likely: NDArray[np.float64]) -> list[float | None]:
    """Scores in 0..1 of answers: 0 for a sure 1, 1 for a sure 5; None where a model would rather say something else.

    Args:
        likely: Probabilities of `CHOICES`, `(answers, 5)`.
    """
    totals = likely.sum(axis=1)
    means = (likely @ np.array(SCORES)) / np.maximum(totals, 1e-12)
    span = SCORES[-1] - SCORES[0]
    return [
        round(float((mean - SCORES[0]) / span), 3) if total >= _ENOUGH else None
        for mean, total in zip(means, totals, strict=True)
    ]
