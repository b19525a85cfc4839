"""`pairs`: training pairs for stage 1's rewriter, by reverse construction from captions."""

from __future__ import annotations

from pathlib import Path

from ..console import say
from ..errors import UserError
from ..recipe import Recipe
from ..recipe.files import recipe_text


def pairs(recipe: Recipe, *, out: str = "") -> Path:
    """Make training pairs for stage 1's rewriter from captions.

    Writes `pairs.csv` with the columns `prompt`, `completion`, `stage1.degradations` pairs per caption. Run again it goes
    on where it stopped.

    Args:
        recipe: The recipe.
        out: Run folder; default: runs/<recipe name>.

    Returns:
        The CSV, for `finetune --pairs`.
    """
    from ..data.captions import read_captions
    from ..data.csv_log import csv_text
    from ..recipe.components import build
    from ..running.folder import locked, run_folder, save_recipe, write_text
    from ..running.pool import fetch_models, open_pool
    from ..stage1.align import open_graph
    from ..stage1.pairs import COLUMNS, augment_pairs, make_requests

    captions = read_captions(recipe.stage1.captions, recipe.limit)
    degrader = build(recipe.stage1.degrader, "stage1.degrader")
    models = open_pool(recipe, ("language_model", "embedder"))
    graph = open_graph(recipe.graph) if recipe.graph else None
    with locked(run_folder(recipe, out)) as folder:
        fetch_models(recipe, ("language_model", "embedder"))
        save_recipe(recipe_text(recipe), folder, "pairs")
        made = make_requests(recipe, captions, degrader, models.lend_language(), folder)
        say(f"{len(made)} requests from {len(captions)} captions by {degrader.name}")
        if not made:
            raise UserError(
                f"Pairs need requests. Got none from {len(captions)} captions; try another `stage1.degrader`."
            )
        if graph is not None:
            made = augment_pairs(made, graph, models.embedder, recipe.stage1)
        write_text(folder / "pairs.csv", csv_text([COLUMNS, *made]))
    say(f"{len(made)} pairs in {folder / 'pairs.csv'}")
    return folder / "pairs.csv"
