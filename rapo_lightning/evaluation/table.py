"""What an evaluation shows: the table for the terminal, and the scores of every prompt."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.prompts import Prompt
from .arms import ArmResult

_NAMED = 3
"""Prompts that a line names before it says only how many."""


def table(results: dict[str, Any]) -> str:
    """The results as a table, with one more for each group where there are several.

    Args:
        results: The contents of `results.json`.
    """
    groups = results.get("groups", {})
    lines = _lines(results, results)
    for name, block in groups.items() if len(groups) > 1 else ():
        lines += [
            "",
            f"{name}:",
            *(_lines(results, block) if block["arms"] else ["no prompt has a score in every arm"]),
        ]
    return "\n".join(lines)


def _lines(results: dict[str, Any], block: dict[str, Any]) -> list[str]:
    arms, chance, compare = block["arms"], block.get("chance"), results["compare"]
    width = max(len(name) for name in arms)
    head = f"{'arm':{width}}  {results['metric']:>12}  95 % interval   "
    head += "  chance" if chance is not None else ""
    head += f"  {f'minus {compare}':28}" if compare else ""
    lines = [f"{head}  gap closure  picked  videos  s/prompt     n"]
    for name, arm in arms.items():
        line = f"{name:{width}}  {arm['mean']:12.3f}  {_interval(arm['ci95'])}"
        line += f"  {chance:6.3f}" if chance is not None else ""
        line += f"  {_difference(arm):28}" if compare else ""
        share = f"{block['gap_closure'][name]:11.2f}" if name in block["gap_closure"] else " " * 11
        picked = f"{arm['picked']:6.3f}" if "picked" in arm else " " * 6
        line += f"  {share}  {picked}  {arm['videos_per_prompt']:6.4g}  {arm['seconds_per_prompt']:8.2f}  {arm['n']:4}"
        lines.append(line)
    return lines


def _interval(ends: Sequence[float]) -> str:
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]"


def _difference(arm: dict[str, Any]) -> str:
    found = arm.get("difference")
    return f"{found['mean']:+.3f} [{found['ci95'][0]:+.3f}, {found['ci95'][1]:+.3f}]" if found else ""


def left_out(results: dict[str, Any], arms: Sequence[ArmResult], prompts: Sequence[Prompt]) -> str:
    """A sentence on the prompts that no mean has; empty if there are none."""
    count, some = results["not_scored"], results["not_scored_in_some"]
    if not count:
        return ""
    unknown = np.flatnonzero(~np.isfinite(np.stack([arm.scores for arm in arms])).all(axis=0))
    names = [repr(prompts[int(number)].text) for number in unknown]
    parts = [f"{count - some} have no score by {results['metric']} in any"] if count > some else []
    parts += [f"{some} lack one in some"] if some else []
    shown = ", ".join(names[:_NAMED]) + (", ..." if count > _NAMED else "")
    return (
        f"{count} of {len(prompts)} prompts are left out of every arm: {' and '.join(parts)} ({shown}; see scores.csv)."
    )


def scores_csv(arms: Sequence[ArmResult], prompts: Sequence[Prompt]) -> str:
    """One line per prompt, one column per arm; a score that is missing is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["prompt_id", "prompt", "group", *(arm.name for arm in arms)])
    for number, prompt in enumerate(prompts):
        scores = [arm.scores[number] for arm in arms]
        shown = [f"{score:.6g}" if np.isfinite(score) else "" for score in scores]
        writer.writerow([prompt.id, prompt.text, prompt.group, *shown])
    return text.getvalue()


VIDEO_COLUMNS = ("arm", "prompt_id", "prompt", "group", "seed", "text", "score", "critique")


def videos_csv(arms: Sequence[ArmResult], prompts: Sequence[Prompt], metric: str) -> str:
    """One line per video that was scored: what it was made from, its score, and what the metric says of it.

    Args:
        arms: The arms.
        prompts: The prompts, in the order of the lines.
        metric: Name of the metric.
    """
    text, places = io.StringIO(), {prompt.id: place for place, prompt in enumerate(prompts)}
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(VIDEO_COLUMNS)
    for arm in arms:
        for row in sorted(arm.rows, key=lambda row: (places[row["prompt_id"]], row["seed"])):
            prompt, score = prompts[places[row["prompt_id"]]], row[f"score_{metric}"]
            shown = "" if score is None else f"{score:.6g}"
            told = [row["seed"], row["prompt"], shown, row["critique"]]
            writer.writerow([arm.name, prompt.id, prompt.text, prompt.group, *told])
    return text.getvalue()
