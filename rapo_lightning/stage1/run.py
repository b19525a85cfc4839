"""Runs stage 1 over prompts, from wherever it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules import PromptDataModule

from ..console import say
from ..data.prompts import Prompt
from ..data.store import Row
from ..models import ModelPool
from ..recipe import Recipe
from ..running.callbacks import AlignmentLine, RowWriter
from ..running.folder import is_main_process
from ..running.trainer import predict, predict_trainer
from .align import Aligner, AlignParts
from .module import RapoModule
from .rows import AlignedStore


def align_prompts(
    recipe: Recipe, prompts: Sequence[Prompt], folder: Path, models: ModelPool, parts: AlignParts, tidy: bool = True
) -> dict[str, Row]:
    """Aligns those prompts that `folder` does not have yet.

    Args:
        recipe: The recipe.
        prompts: The prompts.
        folder: Folder of the parquet parts.
        models: The pool.
        parts: What stage 1 needs beside it.
        tidy: Whether to remove what a kill left behind; not where other runs write to the folder.

    Returns:
        Rows by prompt id.
    """
    store, aligner = AlignedStore(folder), Aligner(recipe, models, parts)
    if tidy and is_main_process():
        store.clean()
    done = {row["prompt_id"] for row in store.rows(aligner.recipe_hash)}
    left = [prompt for prompt in prompts if prompt.id not in done]
    say(f"{len(prompts)} prompts, {len(prompts) - len(left)} already aligned in {folder}")
    if left:
        trainer = predict_trainer(recipe.trainer, [RowWriter(store), AlignmentLine()])
        predict(trainer, RapoModule(aligner), PromptDataModule(left, recipe.stage1.batch_size))
    wanted = {prompt.id for prompt in prompts}
    return {row["prompt_id"]: row for row in store.rows(aligner.recipe_hash) if row["prompt_id"] in wanted}
