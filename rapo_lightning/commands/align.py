"""`align`: stage 1 over a prompt file."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from datamodules import PromptDataModule

from ..console import say
from ..data.prompts import Prompt, read_prompts
from ..data.store import Row
from ..recipe import Recipe
from ..stage1.align import AlignModels
from ..stage1.module import RapoModule
from ..stage1.rows import AlignedStore
from .common import fetch_models, predict, run_folder, save_recipe, write_text


def align_prompts(recipe: Recipe, prompts: list[Prompt], folder: Path, models: AlignModels) -> dict[str, Row]:
    """Aligns those prompts that `folder` does not have yet.

    Args:
        recipe: The recipe.
        prompts: The prompts.
        folder: Folder of the parquet parts.
        models: Built models.

    Returns:
        Rows by prompt id.
    """
    store, identity = AlignedStore(folder), recipe.align_hash()
    done = {row["prompt_id"] for row in store.rows(identity)}
    left = [prompt for prompt in prompts if prompt.id not in done]
    say(f"{len(prompts)} prompts, {len(prompts) - len(left)} already aligned in {folder}")
    if left:
        module = RapoModule(recipe, models, store)
        predict(recipe.trainer, module, PromptDataModule(left, recipe.stage1.batch_size))
    wanted = {prompt.id for prompt in prompts}
    return {row["prompt_id"]: row for row in store.rows(identity) if row["prompt_id"] in wanted}


def align(recipe: Recipe, recipe_yaml: str, out: str) -> Path:
    """Aligns prompts; run again it goes on where it stopped.

    Returns:
        The text file with one aligned prompt a line, in the order of the prompt file.
    """
    prompts = read_prompts(recipe.prompts, recipe.limit)
    models = AlignModels.from_recipe(recipe)
    folder = run_folder(recipe, out)
    fetch_models(recipe, ("language_model", "embedder"))
    save_recipe(recipe_yaml, folder)
    rows = align_prompts(recipe, prompts, folder / "aligned", models)
    target = folder / "aligned.txt"
    rank_zero_only(write_text)(target, "".join(rows[prompt.id]["prompt"] + "\n" for prompt in prompts))
    for prompt in prompts[:3]:
        say(f"  {prompt.text}\n    -> {rows[prompt.id]['prompt']}")
    say(f"{len(rows)} aligned prompts in {target}, with every intermediate in {folder / 'aligned'}")
    return target
