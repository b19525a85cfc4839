"""Candidates from the trajectories of one run or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ...data.ranking import known_score
from ...data.store import Row
from ...data.trajectory import by_prompt, score_columns
from ...errors import UserError
from .filter import Candidate


def trajectory_candidates(runs: Mapping[str, Sequence[Row]]) -> list[Candidate]:
    """Every round of every run, a prompt's together.

    Args:
        runs: Rows of each run, of one recipe hash, by the run's name.

    Raises:
        UserError: If the runs have videos of several models, or scores of other verifiers.
    """
    _one_video_model(runs)
    _same_verifiers(runs)
    starts, rounds = (
        [by_prompt(rows) for rows in runs.values()],
        by_prompt(row for rows in runs.values() for row in rows),
    )
    found = []
    for identity, rows in rounds.items():
        together = tuple(rows)
        for own in (start[identity] for start in starts if identity in start):
            found += [Candidate(row, own[0], together, identity) for row in own]
    return found


def _one_video_model(runs: Mapping[str, Sequence[Row]]) -> None:
    models = {row.get("video_model") or "(not known)": name for name, rows in runs.items() for row in rows}
    if len(models) > 1:
        told = " and ".join(f"{model} in {run}" for model, run in sorted(models.items()))
        raise UserError(
            "A refiner is trained on one video model's videos, since what suits one need not suit another. Got videos of "
            f"{told}; leave one of the runs out."
        )


def scored(rows: Sequence[Row]) -> list[str]:
    """Verifiers with a score in any row; a column without one is that of another recipe in the same folder."""
    names = dict.fromkeys(column for row in rows for column in score_columns(row))
    return sorted(
        name.removeprefix("score_") for name in names if any(known_score(row, name) > -math.inf for row in rows)
    )


def _same_verifiers(runs: Mapping[str, Sequence[Row]]) -> None:
    verifiers = {name: scored(rows) for name, rows in runs.items()}
    if len({tuple(found) for found in verifiers.values()}) > 1:
        told = "; ".join(f"{name}: {', '.join(found) or 'none'}" for name, found in verifiers.items())
        raise UserError(
            f"Runs that are read together need scores of the same verifiers, or they cannot be compared. Got {told}. Let `collect` "
            "score the run that lacks one (its videos are not made again), or leave it out."
        )
