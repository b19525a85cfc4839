"""`discriminator`: trains stage 1's discriminator on which branch gave the better video."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..console import say
from ..recipe import Recipe
from ..recipe.files import recipe_text


def discriminator(recipe: Recipe, *, out: str = "") -> Path:
    """Train stage 1's discriminator on which branch gives the better video.

    Aligns the recipe's prompts, makes a video of each branch, scores it, and trains. Run again it goes on where it
    stopped.

    Args:
        recipe: The recipe.
        out: Run folder; default: runs/<recipe name>.

    Returns:
        The discriminator's folder.
    """
    from ..data.prompts import read_prompts
    from ..running.folder import locked, run_folder, save_recipe
    from ..running.pool import fetch_models, open_pool, rewriter_checkpoints
    from ..stage1.align import AlignParts
    from ..stage1.discriminator_training import HELD_OUT, train_discriminator
    from ..stage1.run import align_prompts
    from ..stage2.judges import build_judges

    prompts = read_prompts(recipe.prompts, recipe.limit)
    # The choice plays no part here, and the one to be trained may not exist yet.
    recipe = dataclasses.replace(recipe, stage1=dataclasses.replace(recipe.stage1, discriminator=""))
    models = open_pool(recipe)
    parts, judges = dataclasses.replace(AlignParts.from_recipe(recipe, models), all_branches=True), build_judges(recipe)
    with locked(run_folder(recipe, out)) as folder:
        fetch_models(recipe, further=rewriter_checkpoints(recipe))
        save_recipe(recipe_text(recipe), folder, "discriminator")
        aligned = align_prompts(recipe, prompts, folder / "branches", models, parts)
        scores = _score_branches(recipe, prompts, aligned, folder, models, judges)
        model, told = train_discriminator(prompts, aligned, scores, models.embedder, recipe.seed)
        model.save(folder / "discriminator")
    shown = ", ".join(f"{name} {value:.3f}" for name, value in told.items())
    say(f"mean scores of {-(-len(prompts) // HELD_OUT)} prompts not trained on: {shown}")
    say(f"discriminator written to {folder / 'discriminator'}")
    return folder / "discriminator"


def _score_branches(
    recipe: Recipe, prompts: list[Any], aligned: dict[str, dict[str, Any]], folder: Path, models: Any, judges: list[Any]
) -> dict[str, list[float]]:
    """Scores of a video of each branch, in the order of the prompts; generated once and kept."""
    from ..data.prompts import fixed_texts
    from ..evaluation.arms import scores_in_order
    from ..evaluation.module import Arm, score_prompts
    from ..stage1.discriminator import BRANCH_COLUMNS, BRANCHES
    from ..stage2.judgements import Judge
    from ..verifiers import MeanOfVerifiers

    mean = MeanOfVerifiers([judge.verifier for judge in judges])
    judge = Judge(mean, tuple(component for judge in judges for component in judge.components))
    scores: dict[str, list[float]] = {}
    for branch in BRANCHES:
        texts = {p.id: aligned[p.id][BRANCH_COLUMNS[branch]] for p in prompts}
        there = [prompt for prompt in prompts if texts[prompt.id]]
        say(f"{branch}: videos of {len(there)} prompts")
        arm = Arm(f"branch {branch}", fixed_texts(texts), [texts[p.id] for p in there])
        rows = score_prompts(recipe, models, judge, folder, arm, there)
        scores[branch] = scores_in_order(rows, [prompt.id for prompt in prompts], judge.verifier.name).tolist()
    return scores
