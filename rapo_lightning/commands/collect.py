"""`collect`: runs the loop over a prompt file and logs trajectories."""

from __future__ import annotations

from pathlib import Path

from ..console import say
from ..recipe import Recipe
from ..recipe.files import recipe_text


def collect(recipe: Recipe, *, out: str = "") -> Path:
    """Run the closed loop over a prompt file and log trajectories.

    Run again it goes on where it stopped; more rounds continue a finished run, and another verifier scores the videos
    that are there.

    Args:
        recipe: The recipe.
        out: Run folder; default: runs/<recipe name>.

    Returns:
        The run folder.
    """
    from ..data.prompts import fixed_texts, read_prompts
    from ..data.trajectory import by_prompt
    from ..recipe.identity import row_hash
    from ..recipe.verifiers import check_verifier_names
    from ..running.folder import locked, run_folder, save_recipe
    from ..running.pool import fetch_models, open_pool, rewriter_checkpoints
    from ..running.trainer import check_trainer
    from ..stage1.align import AlignParts
    from ..stage1.run import align_prompts
    from ..stage2.judges import build_judges
    from ..stage2.run import run_loop

    check_trainer(recipe.trainer)
    prompts = read_prompts(recipe.prompts, recipe.limit)
    models = open_pool(recipe)
    judges = build_judges(recipe)
    check_verifier_names(recipe)
    parts = AlignParts.from_recipe(recipe, models) if recipe.stage2.start == "stage1" else None
    with locked(run_folder(recipe, out)) as folder:
        fetch_models(recipe, further=rewriter_checkpoints(recipe, stage1=parts is not None))
        save_recipe(recipe_text(recipe), folder, "collect", row_hash(recipe))
        start = None
        if parts is not None:
            aligned = align_prompts(recipe, prompts, folder / "aligned", models, parts)
            start = fixed_texts({identity: row["prompt"] for identity, row in aligned.items()})
        origin = (
            f"stage 1, {f'with the graph {recipe.graph}' if recipe.graph else 'without a graph'}"
            if parts is not None
            else "the users' prompts (`stage2.start`)"
        )
        say(f"the loop starts from {origin}")
        rows = run_loop(recipe, prompts, folder, folder, models, judges, start)
    say(f"{len(rows)} rows of {len(by_prompt(rows))} prompts in {folder / 'trajectories'}")
    return folder
