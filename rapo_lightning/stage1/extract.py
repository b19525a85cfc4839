"""Extraction: places and modifiers of captions, the rows that a relation graph is built from."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from relation_graph import COLUMNS, GraphRow

from ..console import say
from ..data.csv_log import CsvLog
from ..data.ids import derived_seed
from ..errors import UserError
from ..models.base import LanguageModel
from ..prompting.chat import Messages, Sampling
from ..prompting.templates import table, template
from ..running.interruption import INTERRUPTION

_AT_ONCE = 256
"""Captions between two writes."""


class Extractor(Protocol):
    """Reads a graph's rows off captions."""

    name: str
    """Short name, for messages."""

    def extract(self, captions: Sequence[str], language_model: LanguageModel) -> list[GraphRow | None]:
        """One row per caption; None where nothing could be read."""


class LanguageModelExtractor:
    """Asks the language model for a JSON object (the paper asks Mistral)."""

    name = "language_model"

    def __init__(self, max_new_tokens: int = 160) -> None:
        """Sets the sampling.

        Args:
            max_new_tokens: Longest answer in tokens (ours).
        """
        self.sampling = Sampling(temperature=0.0, max_new_tokens=max_new_tokens)

    def extract(self, captions: Sequence[str], language_model: LanguageModel) -> list[GraphRow | None]:
        """See `Extractor`."""
        conversations = [extract_messages(caption) for caption in captions]
        seeds = [derived_seed("extract", caption) for caption in captions]
        answers = language_model.complete(conversations, seeds, self.sampling)
        return [parse_answer(caption, answer) for caption, (answer,) in zip(captions, answers, strict=True)]


def extract_messages(caption: str) -> Messages:
    """The conversation that asks for one extraction."""
    messages = [{"role": "system", "content": template("stage1", "extract_system")}]
    for shown, answer in table("stage1", "extract_examples"):
        messages += [{"role": "user", "content": shown}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": caption}]


def parse_answer(caption: str, answer: str) -> GraphRow | None:
    """A graph's row from a model's answer, or None if it holds no JSON object with a place."""
    found = re.search(r"\{.*\}", answer, re.DOTALL)
    try:
        fields = json.loads(found[0]) if found else {}
    except ValueError:
        return None
    cells: list[tuple[str, ...]] = []
    for name in ("verb_obj_word", "scenario_word", "place"):
        value = fields.get(name, []) if isinstance(fields, dict) else []
        phrases = value if isinstance(value, list) else [value]
        cells.append(tuple(" ".join(item.split()) for item in phrases if isinstance(item, str) and item.strip()))
    return GraphRow(caption, cells[0], cells[1], cells[2]) if cells[2] else None


def open_log(target: Path, captions: Sequence[str]) -> CsvLog:
    """The CSV of a graph's rows, to be begun or continued.

    Args:
        target: The CSV.
        captions: The captions that it must have.

    Raises:
        UserError: If it holds other captions.
    """
    log = CsvLog(target, COLUMNS)
    for number, row in enumerate(log.rows(), start=1):
        if number > len(captions) or row[0] != captions[number - 1]:
            raise UserError(
                f"{target} is to be continued and must have the same captions in the same order. Got {row[0][:60]!r} in "
                f"row {number}, which is another one; choose another `--out`."
            )
    return log


def extract_captions(captions: Sequence[str], extractor: Extractor, language: LanguageModel, log: CsvLog) -> int:
    """Appends one row per caption that the CSV does not have yet.

    Returns:
        How many of those read now have no place.
    """
    begun, empty = sum(1 for _ in log.rows()), 0
    if begun:
        say(f"{begun} captions already read into {log.path}")
    with INTERRUPTION.watched():
        for begin in tqdm(range(begun, len(captions), _AT_ONCE), desc="extract", unit="batch", delay=5):
            INTERRUPTION.check()
            part = captions[begin : begin + _AT_ONCE]
            rows = extractor.extract(part, language)
            empty += rows.count(None)
            log.append([_cells(caption, row) for caption, row in zip(part, rows, strict=True)])
    return empty


def _cells(caption: str, row: GraphRow | None) -> list[object]:
    return [caption, *([list(row.verb_objects), list(row.scenarios), list(row.places)] if row else [[], [], []])]
