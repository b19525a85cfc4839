"""`evaluate`: the arms on held-out prompts, with intervals."""

from __future__ import annotations

from ..recipe import Recipe


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
    from ..evaluation.checks import check_arms
    from ..evaluation.run import open_evaluator, run_arms
    from ..recipe.verifiers import check_verifier_names
    from ..running.folder import locked, run_folder
    from ..running.trainer import check_trainer
    from .refine import refiner_folder

    check_trainer(recipe.trainer)
    settings = recipe.evaluation
    prompts = read_prompts(settings.prompts, settings.limit, "evaluation.prompts")
    check_arms(recipe, prompts)
    check_verifier_names(recipe)
    refines = bool({"refiner", "refiner+sspo"} & set(settings.arms))
    refiner = refiner_folder(recipe, out) if refines else None
    evaluator = open_evaluator(recipe, run_folder(recipe, out), prompts, refiner)
    with locked(evaluator.folder) as folder:
        return run_arms(evaluator, folder)[1]
