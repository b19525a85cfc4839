"""`align`: stage 1 over a prompt file."""

from __future__ import annotations

from pathlib import Path

from ..console import say
from ..recipe import Recipe
from ..recipe.files import recipe_text


def align(recipe: Recipe, *, out: str = "") -> Path:
    """Stage 1: align a prompt file with the model's training captions.

    Run again it goes on where it stopped.

    Args:
        recipe: The recipe.
        out: Run folder; default: runs/<recipe name>.

    Returns:
        The text file with one aligned prompt a line, in the order of the prompt file.
    """
    from ..data.prompts import read_prompts
    from ..running.folder import is_main_process, locked, run_folder, save_recipe, write_text
    from ..running.pool import fetch_models, open_pool, rewriter_checkpoints
    from ..stage1.align import AlignParts
    from ..stage1.run import align_prompts

    prompts = read_prompts(recipe.prompts, recipe.limit)
    models = open_pool(recipe, ("language_model", "embedder"))
    parts = AlignParts.from_recipe(recipe, models)
    with locked(run_folder(recipe, out)) as folder:
        fetch_models(recipe, ("language_model", "embedder"), rewriter_checkpoints(recipe))
        save_recipe(recipe_text(recipe), folder, "align")
        rows = align_prompts(recipe, prompts, folder / "aligned", models, parts)
        target = folder / "aligned.txt"
        if is_main_process():
            write_text(target, "".join(rows[prompt.id]["prompt"] + "\n" for prompt in prompts))
    for prompt in prompts[:3]:
        say(f"  {prompt.text}\n    -> {rows[prompt.id]['prompt']}")
    say(f"{len(rows)} aligned prompts in {target}, with every intermediate in {folder / 'aligned'}")
    return target
