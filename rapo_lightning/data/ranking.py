"""Which round of a prompt is best: Average Ranking over the verifiers, computed on reading and never stored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from .store import Row
from .trajectory import score_columns


def known_score(row: Row, column: str) -> float:
    """A score, or -inf where there is none: a verifier that could not score leaves null, and NaN is no number."""
    value = row.get(column)
    return -math.inf if value is None or math.isnan(value) else float(value)


def average_ranks(rounds: Sequence[Row]) -> list[float]:
    """Mean rank of each round of one prompt over the verifiers (RAPO++, section 4.1), 1 is best.

    Ties share the mean of their ranks. A score that is missing or NaN ranks last.

    Args:
        rounds: The rows of one prompt.
    """
    columns = score_columns(rounds[0])
    if not columns:
        return [0.0] * len(rounds)
    # Ranked from the highest score down, so that what has no score is the largest.
    losses = [[-known_score(row, column) for row in rounds] for column in columns]
    ranks = rankdata(np.asarray(losses), method="average", axis=1)
    return [float(rank) for rank in ranks.mean(axis=0)]


def best_round(rounds: Sequence[Row]) -> Row:
    """The round with the lowest mean rank; the earliest on a tie, since the paper gives no rule."""
    ranks = average_ranks(rounds)
    return rounds[min(range(len(rounds)), key=lambda index: (ranks[index], rounds[index]["round"]))]


def mean_score(row: Row) -> float:
    """Mean of the verifiers' scores of a row (the paper's S(v)); missing ones and NaN are left out, none gives -inf."""
    scores = [known_score(row, column) for column in score_columns(row)]
    values = [score for score in scores if score > -math.inf]
    return sum(values) / len(values) if values else -math.inf


def mean_gap(row: Row, other: Row) -> float:
    """By how much a row's mean score exceeds another's, over the verifiers that scored both; NaN if none did."""
    both = [(known_score(row, column), known_score(other, column)) for column in score_columns(row)]
    gaps = [score - base for score, base in both if min(score, base) > -math.inf]
    return sum(gaps) / len(gaps) if gaps else math.nan
