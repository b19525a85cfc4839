"""`collect`: runs the loop over a prompt file and logs trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..console import say
from ..recipe import Recipe
from ..recipe.files import recipe_text


def collect(
    recipe: Recipe,
    *,
    out: str = "",
    shard: str = "",
    engine: Literal["lightning", "ray"] = "lightning",
    workers: int = 0,
) -> Path:
    """Run the closed loop over a prompt file and log trajectories.

    Run again it goes on where it stopped; more rounds continue a finished run, and another verifier scores the videos
    that are there.

    Args:
        recipe: The recipe.
        out: Run folder; default: runs/<recipe name>.
        shard: Share of the prompts, i/n for the i-th of n; shards may run at once in one run folder.
        engine: Who starts the processes: Lightning, or a Ray cluster (extra `ray`).
        workers: Workers of the Ray cluster; 0 is one per GPU, or one per machine where there are none.

    Returns:
        The run folder.
    """
    from ..collection import CollectionWorker, check_ray, collect_with_ray
    from ..data.prompts import read_prompts, read_share
    from ..data.trajectory import by_prompt
    from ..recipe.identity import row_hash
    from ..recipe.verifiers import check_verifier_names
    from ..running.folder import locked, run_folder, save_recipe
    from ..running.pool import fetch_models, rewriter_checkpoints
    from ..running.trainer import check_trainer

    share = read_share(shard)
    if engine == "ray":
        check_ray()
    check_trainer(recipe.trainer)
    prompts = share.of(read_prompts(recipe.prompts, recipe.limit))
    worker = CollectionWorker(recipe, run_folder(recipe, out), share.name, tidy=not share.name)
    check_verifier_names(recipe)
    with locked(worker.folder, share.name) as folder:
        fetch_models(recipe, further=rewriter_checkpoints(recipe, stage1=worker.parts is not None))
        save_recipe(recipe_text(recipe), folder, "collect", row_hash(recipe))
        say(f"the loop starts from {_origin(recipe)}")
        rows = collect_with_ray(worker, prompts, workers) if engine == "ray" else worker.run(prompts)
    say(f"{len(rows)} rows of {len(by_prompt(rows))} prompts in {folder / 'trajectories'}")
    return folder


def _origin(recipe: Recipe) -> str:
    if recipe.stage2.start != "stage1":
        return "the users' prompts (`stage2.start`)"
    rewriter = f", with the rewriter {recipe.stage1.rewriter}" if recipe.stage1.rewriter else ""
    return f"stage 1, {f'with the graph {recipe.graph}' if recipe.graph else 'without a graph'}{rewriter}"
