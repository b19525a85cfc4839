"""When a trajectory ends before its last round, and what its prompt counts with from then on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .ranking import Ranking, best_round, reaches
from .store import Row

Ending = Literal["", "ceiling", "patience"]
"""Why a round was a trajectory's last, as it stands in rows; empty where the loop went on, or `rounds` ended it."""


@dataclass
class Stop:
    """When a trajectory ends before its last round (ours; the paper runs all rounds of every prompt). By default never."""

    ceiling: dict[str, float] = field(default_factory=dict)
    """Score by a verifier's name: a round that reaches every one of them is the last."""
    patience: int = 0
    """Rounds in a row without a better one, as `ranking` compares them, after which a trajectory ends; 0 goes on."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        if self.patience < 0 or not all(map(math.isfinite, self.ceiling.values())):
            raise ValueError(
                "A `stop` needs patience >= 0 and a ceiling of numbers. Got "
                f"patience={self.patience}, ceiling={self.ceiling}; correct the number, or leave it out."
            )


def ending(rounds: Sequence[Row], stop: Stop, ranking: Ranking | None = None) -> Ending:
    """Why the last of these rounds ends its trajectory; empty where it does not.

    A score that is missing or NaN reaches no ceiling, and a round that is as good as an earlier one is no gain.

    Args:
        rounds: The rows of one prompt so far, in order.
        stop: When to end.
        ranking: How rounds are compared.
    """
    last = rounds[-1]
    if stop.ceiling and all(reaches(last, name, score) for name, score in stop.ceiling.items()):
        return "ceiling"
    # The earliest of equal rounds is the best one.
    if stop.patience and last["round"] - best_round(rounds, ranking)["round"] >= stop.patience:
        return "patience"
    return ""


def counted_row(rounds: Sequence[Row], number: int, ranking: Ranking | None = None) -> Row:
    """The row that a prompt counts with in a table by round: that round's; after an early end, the best it had.

    Without it a table's later rounds would be those of the prompts that had not come to an end, the hard ones.

    Args:
        rounds: The rows of one prompt, in order.
        number: The round.
        ranking: How rounds are compared.
    """
    return rounds[number] if number < len(rounds) else best_round(rounds, ranking)
