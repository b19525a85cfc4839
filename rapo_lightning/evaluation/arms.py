"""The arms of an evaluation and the numbers reported of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.store import Row
from ..errors import RunError
from .statistics import Floats, bootstrap_means, percentile_interval

ENDS = ("raw", "reference", "chance")
"""Arms that have no gap closure: its ends, and the level of chance."""


@dataclass(frozen=True)
class ArmResult:
    """Scores of one arm, one per prompt, in the same prompt order for every arm.

    Attributes:
        name: The arm's name, with the number of videos where it chooses among several: `sspo@5`.
        scores: `(prompts,)`, each the mean over the prompt's video seeds; NaN where one of them has no score.
        videos_per_prompt: Videos that must be generated to use the arm, on average where trajectories end early.
        seconds_per_prompt: Time of rewriting, generating and judging that the arm needs.
        picked: `(prompts,)`, the metric's score of the very video that a loop picked; None where the loop did not listen to
            the metric.
        rows: The rows of the videos that were scored.
    """

    name: str
    scores: Floats
    videos_per_prompt: float
    seconds_per_prompt: float
    picked: Floats | None = None
    rows: Sequence[Row] = ()


def scores_in_order(rows: Sequence[Row], prompt_ids: Sequence[str], metric: str) -> Floats:
    """Mean score of each prompt's rows in the order of `prompt_ids`; NaN where a score is missing."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        score = row[f"score_{metric}"]
        found[row["prompt_id"]].append(np.nan if score is None else score)
    return np.array([np.mean(sorted(found[identity])) if identity in found else np.nan for identity in prompt_ids])


def summarize(
    results: Sequence[ArmResult],
    metric: str,
    recipe_hash: str,
    groups: Sequence[str] = (),
    compare: str = "",
    seeds: int = 1,
) -> dict[str, Any]:
    """The contents of `results.json` (docs/trajectories.md).

    Args:
        results: The arms, in the recipe's order.
        metric: Name of the metric.
        recipe_hash: Hash of what the arms were made by.
        groups: The group of each prompt, empty where it has none.
        compare: Name of the result that differences are taken from; empty for none.
        seeds: Videos per prompt.

    Raises:
        RunError: If no prompt has a score in every arm.
    """
    scores = np.stack([result.scores for result in results])
    whole = _block(results, scores, np.ones(scores.shape[1], bool), compare)
    if not whole["arms"]:
        raise RunError(
            f"An evaluation needs a prompt that {metric} scores in every arm. Got none of {scores.shape[1]}; look whether the "
            "metric understands the prompts."
        )
    names = [name for name in dict.fromkeys(groups) if name]
    split = {name: _block(results, scores, np.asarray(groups) == name, compare) for name in names}
    told = {"metric": metric, "recipe_hash": recipe_hash, "seeds": seeds, "compare": compare}
    return {**whole, **told, **({"groups": split} if split else {})}


def _block(results: Sequence[ArmResult], scores: Floats, chosen: NDArray[np.bool_], compare: str) -> dict[str, Any]:
    """The numbers of the chosen prompts: of those that have a score in every arm."""
    names, there = [result.name for result in results], np.isfinite(scores)
    known = chosen & there.all(axis=0)
    block: dict[str, Any] = {"arms": {}, "gap_closure": {}, "gap_closure_ci95": {}, "paired": {}}
    if known.any():
        drawn, means = bootstrap_means(scores[:, known]), scores[:, known].mean(axis=1)
        intervals = percentile_interval(drawn)
        block["arms"] = {
            result.name: _arm(result, known, mean, ends)
            for result, mean, ends in zip(results, means, intervals, strict=True)
        }
        block["gap_closure"], block["gap_closure_ci95"] = _closure(names, means, drawn)
        block["paired"] = _paired(names, means, drawn, int(known.sum()))
        if "chance" in names:
            block["chance"] = block["arms"]["chance"]["mean"]
        for name in names if compare in names else ():
            if name != compare:
                block["arms"][name]["difference"] = _difference(block["paired"], name, compare)
    # Told apart: prompts that the metric does not understand, and judgements that failed.
    return {
        **block,
        "not_scored": int((chosen & ~known).sum()),
        "not_scored_in_some": int((chosen & ~known & there.any(axis=0)).sum()),
    }


def _arm(result: ArmResult, known: NDArray[np.bool_], mean: float, ends: Floats) -> dict[str, Any]:
    arm = {
        "mean": float(mean),
        "ci95": ends.tolist(),
        "n": int(known.sum()),
        "videos_per_prompt": round(result.videos_per_prompt, 4),
        "seconds_per_prompt": round(result.seconds_per_prompt, 4),
    }
    if result.picked is not None and np.isfinite(result.picked[known]).any():
        arm["picked"] = float(np.nanmean(result.picked[known]))
    return arm


def _closure(names: list[str], means: Floats, drawn: Floats) -> tuple[dict[str, float], dict[str, list[float]]]:
    """(arm - raw) / (reference - raw) of the means, with intervals."""
    if not {"raw", "reference"} <= set(names):
        return {}, {}
    raw, reference = names.index("raw"), names.index("reference")
    gap, gaps = means[reference] - means[raw], drawn[reference] - drawn[raw]
    if gap == 0:
        return {}, {}
    closed = {name: number for number, name in enumerate(names) if name not in ENDS}
    shares = (drawn - drawn[raw])[:, gaps != 0] / gaps[gaps != 0]
    return (
        {name: float((means[number] - means[raw]) / gap) for name, number in closed.items()},
        {name: percentile_interval(shares[number]).tolist() for name, number in closed.items()},
    )


def _paired(names: list[str], means: Floats, drawn: Floats, count: int) -> dict[str, dict[str, Any]]:
    """The difference of every pair of arms, each minus one that stands before it."""
    pairs = [(later, earlier) for earlier, later in combinations(range(len(names)), 2)]
    found = {}
    for later, earlier in pairs:
        ends = percentile_interval(drawn[later] - drawn[earlier])
        mean = float(means[later] - means[earlier])
        found[f"{names[later]} - {names[earlier]}"] = {"mean": mean, "ci95": ends.tolist(), "n": count}
    return found


def _difference(paired: dict[str, dict[str, Any]], name: str, other: str) -> dict[str, Any]:
    """Mean and interval of an arm minus another, whichever stands first."""
    if f"{name} - {other}" in paired:
        return {key: paired[f"{name} - {other}"][key] for key in ("mean", "ci95")}
    turned = paired[f"{other} - {name}"]
    return {"mean": -turned["mean"], "ci95": [-end for end in reversed(turned["ci95"])]}
