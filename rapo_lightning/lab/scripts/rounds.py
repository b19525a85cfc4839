"""How a loop's rounds score: `python -m rapo_lightning.lab.scripts.rounds recipes/lab.yaml RUN --loop RUN/evaluation/loop-sspo`.

For each round, the best prompt so far by the recipe's ranking makes new videos, with the evaluation's seeds, and the evaluation's
metric scores them: nothing is chosen on what is scored. Beside it stand what the loop's own judge gave that round's winner, the
share of rewrites that name all that the user asked for in the captions' words, and paired differences between rounds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
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


def measure(recipe: Recipe, run: Path, loop: Path, judge: str, prompts: Sequence[Prompt]) -> dict[str, object]:
    """Scores every round's winners and prints them by group.

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
    ids, found = [prompt.id for prompt in prompts], []
    for number in range(max(map(len, trajectories))):
        best = [so_far(rounds, number, recipe) for rounds in trajectories]
        texts = {row["prompt_id"]: row["prompt"] for row in best}
        arm = Arm(f"round-{number}", fixed_texts(texts), texts)
        rows = score_prompts(recipe, models, metric, run, arm, prompts)
        scores = scores_in_order(rows, ids, metric.verifier.name)
        found.append((scores, np.array([row[judge] for row in best], float)))
    names = {"all": [True] * len(prompts)}
    names |= {group: [p.group == group for p in prompts] for group in dict.fromkeys(p.group for p in prompts) if group}
    return {name: _report(name, np.array(chosen), found, trajectories) for name, chosen in names.items()}


def _report(
    name: str, chosen: NDArray[np.bool_], found: Sequence[tuple[Floats, Floats]], trajectories: Sequence[Sequence[Row]]
) -> list[dict[str, float]]:
    print(f"== {name}: {int(chosen.sum())} prompts")
    part = [rounds for rounds, wanted in zip(trajectories, chosen, strict=True) if wanted]
    report = []
    for number, (scores, judged) in enumerate(found):
        right = right_rewrites(part, number)
        line = f"round {number}: oracle {_mean(scores[chosen])}, judge {_mean(judged[chosen])}"
        if number:
            line += f", gain {_mean((scores - found[number - 1][0])[chosen])}, since 0 {_mean((scores - found[0][0])[chosen])}"
            gains = [
                (values[chosen] - first[chosen]).mean() for values, first in zip(found[number], found[0], strict=True)
            ]
            line += f", oracle's gain over judge's {gains[0] / gains[1]:.3f}" if gains[1] else ""
        print(f"{line}; videos {len(right)}, all named right {np.mean(right):.3f}", flush=True)
        report.append(
            {"round": number, "oracle": float(scores[chosen].mean()), "judge": float(judged[chosen].mean()),
             "videos": len(right), "right": float(np.mean(right))}
        )  # fmt: skip
    return report


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("run", type=Path, help="run folder, gets the new videos' rows and records")
    parser.add_argument("--loop", type=Path, default=None, help="folder with `trajectories/`; default: the run folder")
    parser.add_argument("--prompts", default="", help="prompts of that loop; default: the evaluation's")
    parser.add_argument("--limit", type=int, default=0, help="so many of them, from the first on")
    parser.add_argument("--judge", default="score_vlm_alignment", help="column of the loop's judge")
    parser.add_argument("--out", type=Path, default=None, help="where to write the figures as JSON")
    args = parser.parse_args(arguments)
    recipe = load_recipe(args.recipe)
    prompts = read_prompts(args.prompts or recipe.evaluation.prompts, args.limit)
    figures = measure(recipe, args.run, args.loop or args.run, args.judge, prompts)
    if args.out:
        args.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
