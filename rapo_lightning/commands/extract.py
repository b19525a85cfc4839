"""`graph extract`: reads places and modifiers off captions into the CSV that a graph is built from."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from relation_graph import COLUMNS, GraphRow

from ..console import say
from ..data.csv_log import CsvLog
from ..errors import UserError
from ..models import OnDemand, Residency
from ..recipe import Recipe
from ..recipe.components import build
from ..stage1.extract import Extractor
from .common import default_device, fetch_models
from .pairs import read_captions

_AT_ONCE = 256
"""Captions between two writes."""


def _cells(caption: str, row: GraphRow | None) -> list[object]:
    return [caption, *([list(row.verb_objects), list(row.scenarios), list(row.places)] if row else [[], [], []])]


def extract(recipe: Recipe, captions_file: str, target: Path) -> None:
    """Writes one row per caption; a half-written CSV of the same captions is continued.

    Args:
        recipe: Names the extractor and the language model.
        captions_file: A txt file; empty takes the recipe's `stage1.captions`.
        target: The CSV.

    Raises:
        UserError: If there are no captions, or the CSV holds other ones.
    """
    captions = read_captions(captions_file or recipe.stage1.captions)
    extractor: Extractor = build(recipe.stage1.extractor, "stage1.extractor")
    language = OnDemand(build(recipe.language_model, "language_model"), Residency(default_device(), "resident"))
    log = CsvLog(target, COLUMNS)
    begun = 0
    for begun, row in enumerate(log.rows(), start=1):
        if begun > len(captions) or row[0] != captions[begun - 1]:
            raise UserError(
                f"{target} is to be continued and must have the same captions in the same order. Got {row[0][:60]!r} in "
                f"row {begun}, which is another one; choose another `--out`."
            )
    if begun:
        say(f"{begun} captions already read into {target}")
    fetch_models(recipe, ("language_model",))
    empty = 0
    for begin in tqdm(range(begun, len(captions), _AT_ONCE), desc="extract", unit="batch"):
        part = captions[begin : begin + _AT_ONCE]
        rows = extractor.extract(part, language)
        empty += rows.count(None)
        log.append([_cells(caption, row) for caption, row in zip(part, rows, strict=True)])
    say(f"{len(captions)} captions in {target}, {empty} of those read now without a place")
