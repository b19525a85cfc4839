"""From a recipe's arms to `results.json`, `scores.csv` and `videos.csv`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..console import say
from ..data.prompts import Prompt
from ..recipe import Recipe
from ..recipe.files import recipe_text
from ..recipe.identity import row_hash
from ..running.folder import is_main_process, save_recipe, write_text
from ..running.pool import fetch_models, open_pool, open_refiner, rewriter_checkpoints
from .arms import ArmResult, summarize
from .checks import uses_base
from .evaluator import Evaluator
from .table import left_out, scores_csv, table, videos_csv


def open_evaluator(recipe: Recipe, folder: Path, prompts: list[Prompt], refiner: Path | None) -> Evaluator:
    """Builds an evaluation; nothing is loaded or written.

    Args:
        recipe: The recipe.
        folder: The run folder whose records are used and added to.
        prompts: The held-out prompts.
        refiner: The refiner's folder, where an arm uses one.

    Raises:
        UserError: If a part is missing or not usable.
    """
    models = open_pool(recipe)
    opened = open_refiner(refiner, recipe, models, alone=not uses_base(recipe)) if refiner is not None else None
    settings = recipe.evaluation
    others = {
        name: open_refiner(settings.refiners[name], recipe, models)
        for name in settings.arms
        if name in settings.refiners
    }
    return Evaluator(recipe, folder, prompts, models, opened, others)


def run_arms(evaluator: Evaluator, written: Path) -> tuple[list[ArmResult], dict[str, Any]]:
    """Runs all arms and writes what came out; what was made before is not made again.

    Args:
        evaluator: From `open_evaluator`; its folder is locked by the caller.
        written: Run folder that gets `results.json`, `scores.csv`, `videos.csv` and the recipe.

    Returns:
        The arms' scores, and the contents of `results.json`.

    Raises:
        UserError: If the refiner's base is another one.
        RunError: If no prompt has a score in every arm, or something cannot be written.
    """
    recipe, settings = evaluator.recipe, evaluator.recipe.evaluation
    fetch_models(recipe, further=[name for item in evaluator.recipes.values() for name in rewriter_checkpoints(item)])
    for refiner in (evaluator.refiner, *evaluator.others.values()):
        if refiner is not None:
            refiner.check_base()
    save_recipe(recipe_text(recipe), written, "evaluate")
    results = []
    for arm in settings.arms:
        say(f"arm {arm}")
        results.append(evaluator.run(arm))
    summary = _summary(evaluator, results)
    if is_main_process():
        write_text(written / "scores.csv", scores_csv(results, evaluator.prompts))
        write_text(written / "videos.csv", videos_csv(results, evaluator.prompts, evaluator.judge.verifier.name))
        write_text(written / "results.json", json.dumps(summary, indent=2) + "\n")
    say(table(summary))
    missing = left_out(summary, results, evaluator.prompts)
    if missing:
        say(missing)
    return results, summary


def _summary(evaluator: Evaluator, results: Sequence[ArmResult]) -> dict[str, Any]:
    settings = evaluator.recipe.evaluation
    compare = evaluator.shown(settings.compared) if settings.compared else ""
    groups, metric = [prompt.group for prompt in evaluator.prompts], evaluator.judge.verifier.name
    return summarize(results, metric, row_hash(evaluator.recipe), groups, compare, settings.seeds)
