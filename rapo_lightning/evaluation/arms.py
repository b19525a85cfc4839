"""The arms of an evaluation and the numbers reported of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.trajectory import Row
from .statistics import bootstrap_interval, ratio_interval


@dataclass(frozen=True)
class ArmResult:
    """Scores of one arm, one per prompt, in the same prompt order for every arm.

    Attributes:
        name: `raw`, `sspo@K`, `refiner`, `refiner+sspo@K` or `reference`.
        scores: `(prompts,)`; a score the metric could not give counts as 0.
        videos_per_prompt: Videos that must be generated to use the arm.
        seconds_per_prompt: Time of rewriting, generating and judging that the arm needs.
    """

    name: str
    scores: np.ndarray
    videos_per_prompt: int
    seconds_per_prompt: float


def scores_in_order(rows: Sequence[Row], prompt_ids: Sequence[str], metric: str) -> np.ndarray:
    """Scores of rows in the order of `prompt_ids`; missing scores are 0."""
    found = {row["prompt_id"]: row[f"score_{metric}"] for row in rows}
    return np.array([found[identity] or 0.0 for identity in prompt_ids], dtype=np.float64)


def summarize(results: Sequence[ArmResult], metric: str, recipe_hash: str) -> dict[str, object]:
    """The contents of `results.json`.

    Gap closure is (arm - raw) / (reference - raw) of the means; its interval resamples prompts, all arms together.
    """
    by_name = {result.name: result for result in results}
    arms = {}
    for result in results:
        low, high = bootstrap_interval(result.scores)
        arms[result.name] = {
            "mean": float(result.scores.mean()),
            "ci95": [low, high],
            "n": len(result.scores),
            "videos_per_prompt": result.videos_per_prompt,
            "seconds_per_prompt": round(result.seconds_per_prompt, 4),
        }
    closure: dict[str, float] = {}
    closure_ci: dict[str, list[float]] = {}
    if "raw" in by_name and "reference" in by_name:
        raw, reference = by_name["raw"].scores, by_name["reference"].scores
        for result in results:
            if result.name not in ("raw", "reference") and reference.mean() != raw.mean():
                closure[result.name] = float((result.scores.mean() - raw.mean()) / (reference.mean() - raw.mean()))
                closure_ci[result.name] = list(ratio_interval(result.scores - raw, reference - raw))
    return {
        "arms": arms,
        "gap_closure": closure,
        "gap_closure_ci95": closure_ci,
        "metric": metric,
        "recipe_hash": recipe_hash,
    }


def table(results: dict[str, object]) -> str:
    """The results as a table for the terminal."""
    arms: dict[str, dict[str, object]] = results["arms"]  # type: ignore[assignment]
    closure: dict[str, float] = results["gap_closure"]  # type: ignore[assignment]
    width = max(len(name) for name in arms)
    lines = [f"{'arm':{width}}  {results['metric']:>12}  95 % interval     gap closure  videos  s/prompt     n"]
    for name, arm in arms.items():
        ends: list[float] = arm["ci95"]  # type: ignore[assignment]
        share = f"{closure[name]:11.2f}" if name in closure else " " * 11
        lines.append(
            f"{name:{width}}  {arm['mean']:12.3f}  [{ends[0]:.3f}, {ends[1]:.3f}]  {share}  {arm['videos_per_prompt']:6}"
            f"  {arm['seconds_per_prompt']:8.2f}  {arm['n']:4}"
        )
    return "\n".join(lines)
