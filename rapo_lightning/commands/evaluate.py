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
    from ..evaluation.arms import summarize, table
    from ..evaluation.evaluator import Evaluator, check_arms, uses_base
    from ..recipe.identity import row_hash
    from ..running.folder import is_main_process, locked, run_folder, save_recipe, write_text
    from ..running.pool import fetch_models, open_pool, open_refiner, rewriter_checkpoints
    from ..running.trainer import check_trainer
    from .refine import refiner_folder

    check_trainer(recipe.trainer)
    settings = recipe.evaluation
    prompts = read_prompts(settings.prompts, settings.limit, "evaluation.prompts")
    check_arms(recipe, prompts)
    models, target = open_pool(recipe), run_folder(recipe, out)
    refiner = None
    if any("refiner" in arm for arm in settings.arms):
        refiner = open_refiner(refiner_folder(recipe, out), recipe, models, alone=not uses_base(recipe))
    evaluator = Evaluator(recipe, target, prompts, models, refiner)
    with locked(target) as folder:
        fetch_models(recipe, further=rewriter_checkpoints(recipe) if evaluator.parts is not None else ())
        save_recipe(recipe_text(recipe), folder, "evaluate")
        results = []
        for arm in settings.arms:
            say(f"arm {arm}")
            results.append(evaluator.run(arm))
        summary = summarize(results, evaluator.judge.verifier.name, row_hash(recipe))
        if is_main_process():
            write_text(folder / "results.json", json.dumps(summary, indent=2) + "\n")
    say(table(summary))
    return summary
