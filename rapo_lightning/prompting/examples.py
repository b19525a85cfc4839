"""Example rewrites that the language model is shown: the nearest ones to the prompt at hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.resources import find
from ..data.tables import read_table
from ..errors import UserError

Encode = Callable[[list[str]], NDArray[np.float32]]
"""Unit vectors of texts, `(texts, dimensions)`, as `Embedder.encode` gives them."""


@dataclass(frozen=True)
class Example:
    """A request, a critique of its video, and the caption that answers both."""

    prompt: str
    critique: str
    caption: str


def read_examples(source: str, field: str = "stage2.examples") -> list[Example]:
    """Reads a CSV with the columns `prompt`, `critique`, `caption`.

    Args:
        source: Path of the CSV.
        field: Name of the option, for messages.

    Raises:
        UserError: If the file or a column is missing, or there is no row.
    """
    path = find(source)
    if path is None:
        raise UserError(f"`{field}` must name a CSV file. Got {source!r}, which is no file.")
    columns, rows = read_table(path, "The examples file")
    if {"prompt", "critique", "caption"} - set(columns):
        raise UserError(f"The examples in {path} need the columns prompt, critique, caption. Got {columns}.")
    examples = [Example(row["prompt"], row["critique"], row["caption"]) for row in rows]
    if not examples:
        raise UserError(f"The examples file has no row. Got {path}; write some or leave `{field}` empty.")
    return examples


def words(text: str) -> list[str]:
    """Words of a text in lower case, Latin letters alone."""
    return re.findall(r"[a-z]+", text.lower())


class ExamplePool:
    """Examples with their embeddings."""

    def __init__(self, examples: list[Example]) -> None:
        """Keeps the examples; they are embedded on first use."""
        self.examples = examples
        self.vocabulary = {word for example in examples for word in words(example.caption)}
        self._vectors: NDArray[np.float32] | None = None

    def nearest(self, queries: list[str], count: int, encode: Encode) -> list[list[Example]]:
        """For each query the `count` nearest examples, the nearest last, where a model looks most."""
        if not self.examples or not count:
            return [[] for _ in queries]
        if self._vectors is None:
            self._vectors = encode([query_text(item.prompt, item.critique) for item in self.examples])
        similarity = encode(queries) @ self._vectors.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
        return [[self.examples[index] for index in row[::-1]] for row in order]

    def style(self, text: str) -> float:
        """Share of a text's words that the example captions use; 1 without examples."""
        found = words(text)
        if not self.vocabulary or not found:
            return 1.0 if found else 0.0
        return sum(word in self.vocabulary for word in found) / len(found)


def query_text(prompt: str, critique: str) -> str:
    """The text by which examples are found: the request and what was wrong."""
    return f"{prompt}. {critique}".strip()
