"""How a loop's rounds score: `python -m rapo_lightning.lab.scripts.rounds recipes/lab.yaml RUN --loop RUN/evaluation/loop-sspo`.

For each round, the best prompt so far by the recipe's ranking makes new videos, with the evaluation's seeds, and the evaluation's
metric scores them: nothing is chosen on what is scored. Beside it stand what the loop's own judge gave that round's winner, the
share of rewrites that name all that the user asked for in the captions' words, and paired differences between rounds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...data.prompts import Prompt, fixed_texts, read_prompts
from ...data.ranking import best_round
from ...data.store import Row
from ...data.trajectory import by_prompt, read_rows
from ...evaluation.arms import scores_in_order
from ...evaluation.module import Arm, score_prompts
from ...evaluation.statistics import bootstrap_interval
from ...recipe import Recipe
from ...recipe.files import load_recipe
from ...running.pool import open_pool
from ...stage2.judges import build_judge
from ..reading import translated

Floats = NDArray[np.float64]


def so_far(rounds: Sequence[Row], number: int, recipe: Recipe) -> Row:
    """The best of a prompt's rounds up to one; where the loop ended before, the best of all."""
    return best_round([row for row in rounds if row["round"] <= number], recipe.stage2.ranking)


def _mean(values: Sequence[float] | Floats) -> str:
    low, high = bootstrap_interval(values)
    return f"{float(np.mean(values)):.4f} [{low:.4f}, {high:.4f}]"


def right_rewrites(trajectories: Sequence[Sequence[Row]], number: int) -> list[bool]:
    """For each rewrite of a round whether it names all that the user asked for in the captions' words, and nothing else."""
    rows = [row for rounds in trajectories for row in rounds if row["round"] == number]
    return [all(translated(row["source_prompt"], row["prompt"]).values()) for row in rows]


@dataclass(frozen=True)
class Scored:
    """A loop with what its rounds score.

    Attributes:
        trajectories: The rows of each prompt.
        oracle: Score of each round's winner on new videos, one array over prompts per round.
        judge: What the loop's own judge gave it.
    """

    trajectories: list[list[Row]]
    oracle: list[Floats]
    judge: list[Floats]


def score_rounds(recipe: Recipe, run: Path, loop: Path, judge: str, prompts: Sequence[Prompt]) -> Scored:
    """Makes new videos of every round's winners and scores them.

    Args:
        recipe: The recipe.
        run: Folder for the new videos' rows and records.
        loop: Folder with the loop's `trajectories/`.
        judge: Column of the loop's judge.
        prompts: The prompts, in order.
    """
    groups = by_prompt(read_rows(loop / "trajectories"))
    trajectories = [groups[prompt.id] for prompt in prompts]
    models, metric = open_pool(recipe), build_judge(recipe, recipe.evaluation.metric, "evaluation.metric")
    scored = Scored(trajectories, [], [])
    for number in range(max(map(len, trajectories))):
        best = [so_far(rounds, number, recipe) for rounds in trajectories]
        texts = {row["prompt_id"]: row["prompt"] for row in best}
        arm = Arm(f"round-{number}", fixed_texts(texts), texts)
        rows = score_prompts(recipe, models, metric, run, arm, prompts)
        scored.oracle.append(scores_in_order(rows, [prompt.id for prompt in prompts], metric.verifier.name))
        scored.judge.append(np.array([row[judge] for row in best], float))
    return scored


def _line(number: int, chosen: NDArray[np.bool_], scored: Scored, other: Scored | None) -> str:
    oracle, judge = ([values[chosen] for values in part] for part in (scored.oracle, scored.judge))
    text = f"round {number}: oracle {_mean(oracle[number])}, judge {_mean(judge[number])}"
    if number:
        gains = [float((values[number] - values[0]).mean()) for values in (oracle, judge)]
        text += (
            f", gain {_mean(oracle[number] - oracle[number - 1])}, since round 0 {_mean(oracle[number] - oracle[0])}"
        )
        text += f", oracle's gain over the judge's {gains[0] / gains[1]:.3f}" if gains[1] else ""
    if other is not None:
        rival = other.oracle[min(number, len(other.oracle) - 1)][chosen]
        text += f", against the other loop {_mean(oracle[number] - rival)} of {float(rival.mean()):.4f}"
    return text


def report(scored: Scored, prompts: Sequence[Prompt], other: Scored | None = None) -> dict[str, list[dict[str, float]]]:
    """Prints the rounds by group of prompts.

    Args:
        scored: The loop.
        prompts: Its prompts.
        other: A loop over the same prompts that it is compared with.

    Returns:
        The means, by group and round.
    """
    names = {"all": [True] * len(prompts)}
    names |= {group: [p.group == group for p in prompts] for group in dict.fromkeys(p.group for p in prompts) if group}
    figures: dict[str, list[dict[str, float]]] = {}
    for name, members in names.items():
        chosen, figures[name] = np.array(members), []
        part = [rounds for rounds, wanted in zip(scored.trajectories, members, strict=True) if wanted]
        print(f"== {name}: {len(part)} prompts")
        for number, (oracle, judge) in enumerate(zip(scored.oracle, scored.judge, strict=True)):
            right = right_rewrites(part, number)
            named = float(np.mean(right)) if right else float("nan")
            shown = f"; videos {len(right)}, all named right {named:.3f}"
            print(_line(number, chosen, scored, other) + shown, flush=True)
            figures[name].append(
                {"round": number, "oracle": float(oracle[chosen].mean()), "judge": float(judge[chosen].mean()),
                 "videos": len(right), "right": named}
            )  # fmt: skip
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("run", type=Path, help="run folder, gets the new videos' rows and records")
    parser.add_argument("--loop", type=Path, default=None, help="folder with `trajectories/`; default: the run folder")
    parser.add_argument("--against", type=Path, default=None, help="a loop over the same prompts to compare with")
    parser.add_argument("--prompts", default="", help="prompts of that loop; default: the evaluation's")
    parser.add_argument("--limit", type=int, default=0, help="so many of them, from the first on")
    parser.add_argument("--judge", default="score_vlm_alignment", help="column of the loop's judge")
    parser.add_argument("--out", type=Path, default=None, help="where to write the figures as JSON")
    args = parser.parse_args(arguments)
    recipe = load_recipe(args.recipe)
    prompts = read_prompts(args.prompts or recipe.evaluation.prompts, args.limit)
    scored, other = (
        score_rounds(recipe, args.run, loop, args.judge, prompts) if loop else None
        for loop in (args.loop or args.run, args.against)
    )
    assert scored is not None
    figures = report(scored, prompts, other)
    if args.out:
        args.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
