"""`pairs`: training pairs for stage 1's rewriter, by reverse construction from captions."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from tqdm import tqdm

from ..console import say
from ..data.csv_log import CsvLog, csv_text
from ..data.resources import find
from ..errors import UserError
from ..models import LanguageModel, OnDemand, Residency
from ..recipe import Recipe, digest, named, strip_layout
from ..recipe.components import build
from ..stage1.align import open_graph
from ..stage1.pairs import Degrader, augment_pairs
from .common import default_device, fetch_models, run_folder, save_recipe, write_text

_COLUMNS = ("prompt", "completion")
_AT_ONCE = 512
"""Requests between two writes."""


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


def _requests(recipe: Recipe, captions: list[str], degrader: Degrader, language: LanguageModel, folder: Path) -> CsvLog:
    """Degrades all captions; what an earlier start has made is kept and continued."""
    kept = [named(recipe.stage1.degrader), named(recipe.language_model), recipe.seed, captions]
    log = CsvLog(folder / f"requests-{digest(strip_layout(kept))}.csv", _COLUMNS)
    begun, total = sum(1 for _ in log.rows()), len(captions) * recipe.stage1.degradations
    if begun:
        say(f"{begun} requests already in {log.path}")
    for begin in tqdm(range(begun, total, _AT_ONCE), desc="degrade", unit="batch"):
        numbers = range(begin, min(begin + _AT_ONCE, total))
        seeds = [recipe.seed + number // len(captions) for number in numbers]
        log.append(degrader.degrade([captions[number % len(captions)] for number in numbers], seeds, language))
    return log


def make_pairs(recipe: Recipe, recipe_yaml: str, out: str) -> Path:
    """Writes `pairs.csv` with the columns `prompt`, `completion`, `stage1.degradations` pairs per caption.

    Run again it goes on where it stopped.

    Returns:
        The CSV, for `finetune --pairs`.
    """
    captions = read_captions(recipe.stage1.captions, recipe.limit)
    degrader: Degrader = build(recipe.stage1.degrader, "stage1.degrader")
    language, embedder = build(recipe.language_model, "language_model"), build(recipe.embedder, "embedder")
    graph = open_graph(recipe.graph) if recipe.graph else None
    folder = run_folder(recipe, out)
    fetch_models(recipe, ("language_model", "embedder"))
    save_recipe(recipe_yaml, folder)
    residency = Residency(default_device(), recipe.residency)
    log = _requests(recipe, captions, degrader, OnDemand(language, residency), folder)
    wanted = islice(log.rows(), len(captions) * recipe.stage1.degradations)
    pairs = [(request, completion) for request, completion in wanted if request]
    say(f"{len(pairs)} requests from {len(captions)} captions by {degrader.name}")
    if not pairs:
        raise UserError(f"Pairs need requests. Got none from {len(captions)} captions; try another `stage1.degrader`.")
    if graph is not None:
        pairs = augment_pairs(pairs, graph, residency.use(embedder), recipe.stage1)
    write_text(folder / "pairs.csv", csv_text([_COLUMNS, *pairs]))
    say(f"{len(pairs)} pairs in {folder / 'pairs.csv'}")
    return folder / "pairs.csv"
