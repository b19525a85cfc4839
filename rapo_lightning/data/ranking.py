"""Which round of a prompt is best: Average Ranking over the verifiers, computed on reading and never stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from .store import Row
from .trajectory import score_columns


def known_score(row: Row, column: str) -> float:
    """A score, or -inf where there is none: a verifier that could not score leaves null, and NaN is no number.

    In the precision that rows are stored in, so that a row that was just made compares as it will when it is read.
    """
    value = row.get(column)
    return -math.inf if value is None or math.isnan(value) else float(np.float32(value))


def reaches(row: Row, name: str, least: float) -> bool:
    """Whether a verifier's score is at least so much, in the precision of rows; one that is missing or NaN is not."""
    # A score of 0.7 is a little less than 0.7 when it is read.
    return known_score(row, f"score_{name}") >= float(np.float32(least))


@dataclass
class Ranking:
    """How the rounds of a prompt are compared. The paper's Average Ranking gives every verifier the same vote.

    A vote counts any difference, so a verifier that only says whether something is in order, as text fidelity does, has the
    say of one that measures how well it is done: such a one is better a gate.
    """

    weights: dict[str, float] = field(default_factory=dict)
    """Vote of a verifier, by its name (ours); one that is not named has 1, and 0 leaves it out."""
    gates: dict[str, float] = field(default_factory=dict)
    """Least score by a verifier's name (ours): a round that is below one loses to each round that is not, or that is below
    fewer. A verifier with a gate has no vote."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        both = sorted(self.weights.keys() & self.gates.keys())
        numbers = [*self.weights.values(), *self.gates.values()]
        if both or not all(map(math.isfinite, numbers)) or any(weight < 0 for weight in self.weights.values()):
            raise ValueError(
                "A `ranking` needs weights >= 0 and gates that are numbers, and each verifier in one of them. Got "
                f"weights={self.weights}, gates={self.gates}; correct the number, or leave one of them out."
            )

    @property
    def names(self) -> list[str]:
        """All verifiers that are named."""
        return [*self.weights, *self.gates]


def missed_gates(row: Row, ranking: Ranking) -> int:
    """How many gates a round is below; a score that is missing or NaN is below any."""
    return sum(not reaches(row, name, least) for name, least in ranking.gates.items())


def average_ranks(rounds: Sequence[Row], ranking: Ranking | None = None) -> list[float]:
    """Mean rank of each round of one prompt over the verifiers that vote (RAPO++, section 4.1), 1 is best.

    Ties share the mean of their ranks. A score that is missing or NaN ranks last.

    Args:
        rounds: The rows of one prompt.
        ranking: Weights and gates; None gives every verifier the same vote, as in the paper.
    """
    ranking = ranking or Ranking()
    names = [name.removeprefix("score_") for name in score_columns(rounds[0])]
    votes = {name: ranking.weights.get(name, 1.0) for name in names if name not in ranking.gates}
    voters = [name for name, vote in votes.items() if vote > 0]
    if not voters:
        return [0.0] * len(rounds)
    # Ranked from the highest score down, so that what has no score is the largest.
    losses = [[-known_score(row, f"score_{name}") for row in rounds] for name in voters]
    ranks = rankdata(np.asarray(losses), method="average", axis=1)
    mean = np.average(ranks, axis=0, weights=[votes[name] for name in voters])
    return [float(rank) for rank in mean]


def best_round(rounds: Sequence[Row], ranking: Ranking | None = None) -> Row:
    """The round that is below the fewest gates and has the lowest mean rank.

    The earliest on a tie, since the paper gives no rule.

    Args:
        rounds: The rows of one prompt.
        ranking: As in `average_ranks`.
    """
    ranking = ranking or Ranking()
    ranks = average_ranks(rounds, ranking)
    order = [(missed_gates(row, ranking), rank, row["round"]) for row, rank in zip(rounds, ranks, strict=True)]
    return rounds[min(range(len(rounds)), key=lambda index: order[index])]


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
