"""`finetune`: trains a LoRA refiner on the trajectories of a run or several, or on ready pairs."""

from __future__ import annotations

from pathlib import Path

from ..console import say
from ..recipe import Recipe
from ..recipe.files import recipe_text


def finetune(recipe: Recipe, *, out: str = "", pairs: str = "", dry_run: bool = False) -> Path:
    """Train a LoRA refiner on a run's trajectories.

    Run again it goes on from the last checkpoint, in the middle of an epoch too, and does nothing if it is done. `--runs A B` reads
    several runs' trajectories (`stage3.runs`).

    Args:
        recipe: The recipe.
        out: Run folder; default: runs/<recipe name>.
        pairs: Train on ready pairs instead: a CSV, parquet or dataset with the columns prompt, completion, or a hub name of one.
        dry_run: Show what the filters leave and three examples; load no model and write nothing.

    Returns:
        The refiner's folder.
    """
    from ..recipe.pairs import build_reader
    from ..recipe.verifiers import check_verifier_names
    from ..running.folder import locked, run_folder, save_recipe
    from ..running.pool import fetch_models
    from ..running.trainer import check_trainer
    from ..stage3.adapter import check_quantization
    from ..stage3.pairs import load_pairs
    from ..stage3.pairs.dry_run import dry_run_text
    from ..stage3.run import base_checkpoint, train_refiner

    base_checkpoint(recipe)
    check_trainer(recipe.trainer)
    if not pairs and not recipe.stage3.runs:
        check_verifier_names(recipe)
    views = load_pairs(recipe, run_folder(recipe, out), pairs)
    if dry_run:
        say(dry_run_text(views, build_reader(recipe.stage3), recipe.stage3.reader))
        return run_folder(recipe, out) / "refiner"
    say(str(views.funnel))
    check_quantization(recipe)
    with locked(run_folder(recipe, out)) as folder:
        fetch_models(recipe, ("language_model",))
        save_recipe(recipe_text(recipe), folder, "finetune")
        return train_refiner(recipe, folder, views)
