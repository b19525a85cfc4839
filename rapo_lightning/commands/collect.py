"""`collect`: runs the loop over a prompt file and logs trajectories."""

from __future__ import annotations

from pathlib import Path

from datamodules import PromptDataModule

from ..console import say
from ..data.prompts import Prompt, read_prompts
from ..data.trajectory import TrajectoryStore, by_prompt, unbroken
from ..data.videos import VideoWriter
from ..prompting.choosing import PromptChooser, choose_from
from ..recipe import Recipe
from ..stage1.align import AlignModels
from ..stage2.loop import LoopModels
from ..stage2.module import SspoModule
from .align import align_prompts
from .common import fetch_models, predict, run_folder, save_recipe


def run_loop(
    recipe: Recipe, prompts: list[Prompt], folder: Path, models: LoopModels, starter: PromptChooser | None = None
) -> TrajectoryStore:
    """Brings every prompt's trajectory in `folder` to `stage2.rounds` rounds.

    Args:
        recipe: The recipe.
        prompts: The prompts.
        folder: Gets `trajectories/` and `videos/`.
        models: Built models.
        starter: Gives prompts to start from other than the users' own.

    Returns:
        The store.
    """
    store = TrajectoryStore(folder / "trajectories", [verifier.name for verifier in models.verifiers])
    history = {name: unbroken(rounds) for name, rounds in by_prompt(store.rows(recipe.row_hash())).items()}
    left = [prompt for prompt in prompts if len(history.get(prompt.id, [])) < recipe.stage2.rounds]
    say(f"{len(prompts)} prompts, {len(prompts) - len(left)} already complete in {folder}")
    if left:
        writer = VideoWriter(folder) if recipe.stage2.save_videos else None
        module = SspoModule(recipe, models, store, writer, history, starter)
        predict(recipe.trainer, module, PromptDataModule(left, recipe.stage2.batch_size))
    return store


def collect(recipe: Recipe, recipe_yaml: str, out: str) -> Path:
    """Collects trajectories; run again it goes on where it stopped.

    Returns:
        The run folder.
    """
    prompts = read_prompts(recipe.prompts, recipe.limit)
    models = LoopModels.from_recipe(recipe)
    first = AlignModels.from_recipe(recipe) if recipe.stage2.start == "stage1" else None
    folder = run_folder(recipe, out)
    fetch_models(recipe)
    save_recipe(recipe_yaml, folder)
    starter = None
    if first is not None:
        aligned = align_prompts(recipe, prompts, folder / "aligned", first)
        starter = choose_from({identity: row["prompt"] for identity, row in aligned.items()})
    start = f"stage 1 with the graph {recipe.graph}" if first is not None else "the users' prompts (`stage2.start`)"
    say(f"the loop starts from {start}")
    store = run_loop(recipe, prompts, folder, models, starter)
    rows = store.rows(recipe.row_hash())
    say(f"{len(rows)} rows of {len(by_prompt(rows))} prompts in {store.folder}")
    return folder
