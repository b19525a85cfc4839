"""`pairs`: training pairs for stage 1's rewriter, by reverse construction from captions."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import torch

from ..components import build
from ..console import say
from ..errors import UserError
from ..models import Residency
from ..recipe import Recipe
from ..resources import find
from ..stage1.align import open_graph
from ..stage1.pairs import Degrader, augment_pairs
from .common import fetch_models, run_folder, save_recipe, write_text


def read_captions(source: str, limit: int = 0) -> list[str]:
    """Captions of a txt file, one a line; repeated ones stay, since a graph counts them.

    Args:
        source: Path of the file.
        limit: Number of captions to take from the start, 0 for all.

    Raises:
        UserError: If it is missing, empty or not UTF-8.
    """
    path = find(source) if source else None
    if path is None or not path.is_file():
        raise UserError(f"Captions are read from a txt file, one a line. Got {source!r}, which is no file.")
    try:
        captions = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(
            f"Captions must be UTF-8. Got a byte that is not at position {error.start} of {path}."
        ) from error
    if not captions:
        raise UserError(f"The captions file has no caption. Got {path}; write one a line.")
    return captions[:limit] if limit else captions


def make_pairs(recipe: Recipe, recipe_yaml: str, out: str) -> Path:
    """Writes `pairs.csv` with the columns `prompt`, `completion`, `stage1.degradations` pairs per caption.

    Returns:
        The CSV, for `finetune --pairs`.
    """
    captions = read_captions(recipe.stage1.captions, recipe.limit)
    degrader: Degrader = build(recipe.stage1.degrader, "stage1.degrader")
    language, embedder = build(recipe.language_model, "language_model"), build(recipe.embedder, "embedder")
    graph = open_graph(recipe.graph) if recipe.graph else None
    folder = run_folder(recipe, out)
    fetch_models(recipe)
    save_recipe(recipe_yaml, folder)
    residency = Residency(torch.device("cuda" if torch.cuda.is_available() else "cpu"), recipe.residency)
    pairs: list[tuple[str, str]] = []
    for number in range(recipe.stage1.degradations):
        found = degrader.degrade(captions, [recipe.seed + number] * len(captions), language)
        pairs += [(request, caption) for request, caption in found if request]
    say(f"{len(pairs)} requests from {len(captions)} captions by {degrader.name}")
    if not pairs:
        raise UserError(f"Pairs need requests. Got none from {len(captions)} captions; try another `stage1.degrader`.")
    if graph is not None:
        pairs = augment_pairs(pairs, graph, residency.use(embedder), recipe.stage1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["prompt", "completion"])
    writer.writerows(pairs)
    write_text(folder / "pairs.csv", text.getvalue())
    say(f"{len(pairs)} pairs in {folder / 'pairs.csv'}")
    return folder / "pairs.csv"
