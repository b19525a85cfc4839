"""Generates and scores one text per prompt, where that is not done yet: an arm of `evaluate`, a branch of stage 1."""

from __future__ import annotations

from pathlib import Path

from datamodules import PromptDataModule

from ..data.prompts import Prompt
from ..data.trajectory import Row, TrajectoryStore
from ..evaluation.module import ArmModule
from ..prompting.choosing import PromptChooser
from ..recipe import Recipe
from ..stage2.loop import LoopModels
from ..verifiers import Verifier
from .common import predict


def score_prompts(
    recipe: Recipe, models: LoopModels, metric: Verifier, folder: Path, identity: str, prompts: list[Prompt],
    choose: PromptChooser,
) -> list[Row]:  # fmt: skip
    """Makes and scores the videos that `folder` does not have yet.

    Args:
        recipe: The recipe.
        models: Built models.
        metric: What scores.
        folder: Folder of the parquet parts.
        identity: The rows' `recipe_hash`: everything that can change them.
        prompts: The prompts.
        choose: Gives the text that a prompt's video is made from.

    Returns:
        The rows of these prompts.
    """
    store = TrajectoryStore(folder, [metric.name])
    done = {row["prompt_id"] for row in store.rows(identity)}
    left = [prompt for prompt in prompts if prompt.id not in done]
    if left:
        module = ArmModule(recipe, models, metric, store, identity, choose)
        predict(recipe.trainer, module, PromptDataModule(left, recipe.stage2.batch_size))
    wanted = {prompt.id for prompt in prompts}
    return [row for row in store.rows(identity) if row["prompt_id"] in wanted]
