"""`evaluate`: the arms on held-out prompts, with intervals."""

from __future__ import annotations

import json

from ..console import say
from ..recipe import Recipe
from ..recipe.files import recipe_text


def evaluate(recipe: Recipe, *, out: str = "") -> dict[str, object]:
    """Compare the arms on held-out prompts, with intervals.

    Run again it goes on where it stopped. `--prompts` and `--limit` are those of the section `evaluation`.

    Args:
        recipe: The recipe.
        out: Run folder; default: runs/<recipe name>.

    Returns:
        The contents of `results.json`.
    """
    from ..data.prompts import read_prompts
    from ..evaluation.arms import summarize
    from ..evaluation.checks import check_arms, uses_base
    from ..evaluation.evaluator import Evaluator
    from ..evaluation.table import left_out, scores_csv, table
    from ..recipe.identity import row_hash
    from ..recipe.verifiers import check_verifier_names
    from ..running.folder import is_main_process, locked, run_folder, save_recipe, write_text
    from ..running.pool import fetch_models, open_pool, open_refiner, rewriter_checkpoints
    from ..running.trainer import check_trainer
    from .refine import refiner_folder

    check_trainer(recipe.trainer)
    settings = recipe.evaluation
    prompts = read_prompts(settings.prompts, settings.limit, "evaluation.prompts")
    check_arms(recipe, prompts)
    check_verifier_names(recipe)
    models, target = open_pool(recipe), run_folder(recipe, out)
    refiner = None
    if {"refiner", "refiner+sspo"} & set(settings.arms):
        refiner = open_refiner(refiner_folder(recipe, out), recipe, models, alone=not uses_base(recipe))
    evaluator = Evaluator(recipe, target, prompts, models, refiner)
    with locked(target) as folder:
        fetch_models(
            recipe, further=[name for item in evaluator.recipes.values() for name in rewriter_checkpoints(item)]
        )
        if refiner is not None:
            refiner.check_base()
        save_recipe(recipe_text(recipe), folder, "evaluate")
        results = []
        for arm in settings.arms:
            say(f"arm {arm}")
            results.append(evaluator.run(arm))
        compare = evaluator.shown(settings.compared) if settings.compared else ""
        groups, metric = [prompt.group for prompt in prompts], evaluator.judge.verifier.name
        summary = summarize(results, metric, row_hash(recipe), groups, compare, settings.seeds)
        if is_main_process():
            write_text(folder / "scores.csv", scores_csv(results, prompts))
            write_text(folder / "results.json", json.dumps(summary, indent=2) + "\n")
    say(table(summary))
    missing = left_out(summary, results, prompts)
    if missing:
        say(missing)
    return summary
