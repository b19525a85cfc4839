"""`finetune`: trains a LoRA refiner on a run's trajectories, or on a CSV of pairs."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..recipe import Recipe
from ..recipe.files import recipe_text


def finetune(recipe: Recipe, *, out: str = "", pairs: str = "") -> Path:
    """Train a LoRA refiner on a run's trajectories.

    Run again it goes on from the last checkpoint, in the middle of an epoch too, and does nothing if it is done.

    Args:
        recipe: The recipe.
        out: Run folder; default: runs/<recipe name>.
        pairs: Train on a CSV with the columns prompt, completion instead.

    Returns:
        The refiner's folder.
    """
    from ..recipe.verifiers import check_verifier_names
    from ..running.folder import locked, run_folder, save_recipe
    from ..running.pool import fetch_models
    from ..running.trainer import check_trainer
    from ..stage3.run import base_checkpoint, load_pairs, train_refiner

    base_checkpoint(recipe)
    check_trainer(recipe.trainer)
    if pairs and not Path(pairs).is_file():
        raise UserError(f"`--pairs` must name a file. Got {pairs!r}, which is none.")
    if not pairs:
        check_verifier_names(recipe)
    found, report = load_pairs(recipe, run_folder(recipe, out), pairs)
    with locked(run_folder(recipe, out)) as folder:
        fetch_models(recipe, ("language_model",))
        save_recipe(recipe_text(recipe), folder, "finetune")
        return train_refiner(recipe, folder, found, report)
