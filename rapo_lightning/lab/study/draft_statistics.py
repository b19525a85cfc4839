"""Whether what wins with few denoising steps wins with all of them: rank correlations and winners within each prompt."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ConstantInputWarning, spearmanr

from ...evaluation.statistics import Floats, bootstrap_interval
from .tables import table

ORACLE, JUDGE = "oracle", "judge"
SHUFFLED = "shuffled"
"""The negative control: at few steps the candidates of each prompt are permuted."""


@dataclass(frozen=True)
class Drafts:
    """Scores of all videos.

    Attributes:
        scores: For `ORACLE` and `JUDGE` one array per number of steps, `(prompts, candidates, seeds)`; NaN where there is none.
        seconds: Seconds per video, by number of steps.
    """

    scores: Mapping[str, Mapping[int, Floats]]
    seconds: Mapping[int, float]

    @property
    def steps(self) -> list[int]:
        """Numbers of steps, the fewest first."""
        return sorted(self.seconds)


@dataclass(frozen=True)
class Agreement:
    """How far one ranking of the candidates is another, over prompts.

    Attributes:
        correlation: Mean Spearman rank correlation within a prompt; NaN without a prompt where both rankings tell candidates apart.
        correlation_ends: Its 95 % bootstrap interval over prompts.
        told_apart: Prompts of that mean: those where both rankings tell some candidates apart.
        winner: Mean share of the first ranking's winners that win in the second too.
        winner_ends: Its interval.
        prompts: Prompts that have all scores.
    """

    correlation: float
    correlation_ends: tuple[float, float]
    told_apart: int
    winner: float
    winner_ends: tuple[float, float]
    prompts: int


def _interval(values: Sequence[float]) -> tuple[float, float]:
    return bootstrap_interval(values) if values else (float("nan"), float("nan"))


def agreement(first: Floats, second: Floats) -> Agreement:
    """Compares two scorings of the same candidates; each prompt's value is the mean over its columns.

    Args:
        first: `(prompts, candidates, columns)`.
        second: The same shape.
    """
    correlations, winners = [], []
    for one, other in zip(first, second, strict=True):
        if not (np.isfinite(one).all() and np.isfinite(other).all()):
            continue
        pairs = list(zip(one.T, other.T, strict=True))
        with warnings.catch_warnings():
            # Candidates that all have one score have no ranks; such a prompt is left out, and counted.
            warnings.simplefilter("ignore", ConstantInputWarning)
            ranked = [float(spearmanr(a, b).statistic) for a, b in pairs]
        known = [value for value in ranked if np.isfinite(value)]
        correlations += [float(np.mean(known))] if known else []
        winners.append(float(np.mean([_shared_winners(a, b) for a, b in pairs])))
    return Agreement(
        float(np.mean(correlations)) if correlations else float("nan"), _interval(correlations), len(correlations),
        float(np.mean(winners)) if winners else float("nan"), _interval(winners), len(winners),
    )  # fmt: skip


def _shared_winners(first: Floats, second: Floats) -> float:
    """Share of the candidates with the highest first score that have the highest second one: one of those tied is picked at random."""
    best = first == first.max()
    return float((second == second.max())[best].mean())


def picked_score(choosing: Floats, paid: Floats) -> tuple[float, tuple[float, float]]:
    """Mean of what the candidates score that others' scores pick, with its interval over prompts.

    Args:
        choosing: `(prompts, candidates, columns)`, the scores that pick.
        paid: Of the same shape, what the pick is worth.
    """
    values = []
    for one, other in zip(choosing, paid, strict=True):
        if np.isfinite(one).all() and np.isfinite(other).all():
            values.append(float(np.mean([b[a == a.max()].mean() for a, b in zip(one.T, other.T, strict=True)])))
    return (float(np.mean(values)) if values else float("nan")), _interval(values)


def shuffled(scores: Floats, seed: int = 0) -> Floats:
    """Scores with the candidates of each prompt permuted, the same way in all columns."""
    rng = np.random.default_rng(seed)
    return np.stack([part[rng.permutation(len(part))] for part in scores])


def other_noise(scores: Floats) -> Floats:
    """The same videos' scores with each seed's in the place of the one before, so that no column has its own noise."""
    return np.roll(scores, 1, axis=2)


def compared(drafts: Drafts, by: str, truth: str) -> dict[str, Agreement]:
    """How far rankings with few steps are that with the most steps and other noise, which a decision must hold for.

    Args:
        drafts: The scores, of two seeds at least.
        by: Who ranks with few steps.
        truth: Who ranks with the most.

    Returns:
        By number of steps as text; the last is the ceiling, all steps against all steps with other noise; and `SHUFFLED`.
    """
    most = other_noise(drafts.scores[truth][drafts.steps[-1]])
    found = {str(steps): agreement(drafts.scores[by][steps], most) for steps in drafts.steps}
    return {**found, SHUFFLED: agreement(shuffled(drafts.scores[by][drafts.steps[-1]]), most)}


def same_noise(drafts: Drafts, by: str) -> dict[str, Agreement]:
    """How far rankings with few steps are that with the most steps of the same noise."""
    most = drafts.scores[by][drafts.steps[-1]]
    return {str(steps): agreement(drafts.scores[by][steps], most) for steps in drafts.steps[:-1]}


def _number(value: float, ends: tuple[float, float]) -> str:
    return "" if np.isnan(value) else f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"


def agreement_table(found: Mapping[str, Agreement]) -> str:
    """A markdown table of agreements, by steps."""
    head = ["steps", "rank correlation", "prompts", "its winner wins", "prompts"]
    rows = [
        [name, _number(item.correlation, item.correlation_ends), str(item.told_apart),
         _number(item.winner, item.winner_ends), str(item.prompts)]
        for name, item in found.items()
    ]  # fmt: skip
    return table(head, rows)


def mean_table(drafts: Drafts, kinds: Sequence[str]) -> str:
    """Mean scores by steps and kind of text, seconds per video, and what the oracle gives the pick of each number of steps."""
    rows = []
    most = other_noise(drafts.scores[ORACLE][drafts.steps[-1]])
    for steps in drafts.steps:
        for by, scores in drafts.scores.items():
            values: NDArray[np.float64] = np.nanmean(scores[steps], axis=(0, 2))
            picked = _number(*picked_score(scores[steps], most))
            rows.append([str(steps), by, f"{float(np.nanmean(scores[steps])):.3f}", *(f"{value:.3f}" for value in values), picked,
                         f"{drafts.seconds[steps]:.4f}"])  # fmt: skip
    return table(["steps", "by", "mean", *kinds, "its pick, by the oracle", "s/video"], rows)
