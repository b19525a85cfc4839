"""Extraction: places and modifiers of captions, the rows that a relation graph is built from."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Protocol

from relation_graph import GraphRow

from ..data.ids import derived_seed
from ..models.base import LanguageModel
from ..prompting.chat import Messages, Sampling
from ..prompting.templates import table, template


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
