"""Reads the CSV rows that a relation graph is built from, without evaluating code."""

from __future__ import annotations

import ast
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = ("Input", "verb_obj_word", "scenario_word", "place")
"""The columns of the published CSVs."""
MAX_CELL = 100_000
"""Longest cell in characters; a caption's modifiers take a few hundred."""


@dataclass(frozen=True)
class GraphRow:
    """One caption's extraction.

    Attributes:
        caption: The caption.
        verb_objects: Subject and action modifiers.
        scenarios: Atmosphere modifiers.
        place: The scene, the hub of the graph.
    """

    caption: str
    verb_objects: tuple[str, ...]
    scenarios: tuple[str, ...]
    place: str


@dataclass
class RowReport:
    """What could not be read: line numbers with the reason."""

    bad: list[tuple[int, str]] = field(default_factory=list)
    good: int = 0

    def __str__(self) -> str:
        """One line, naming the first bad rows."""
        shown = "; ".join(f"line {line}: {reason}" for line, reason in self.bad[:5])
        return f"{self.good} rows read, {len(self.bad)} bad" + (f" ({shown})" if shown else "")


def parse_cell(cell: str) -> tuple[str, ...]:
    """The phrases of a list cell: a Python or JSON list of strings; empty strings are left out.

    Args:
        cell: Such as `"['walking a dog', '']"` or `'["at dusk"]'`.

    Raises:
        ValueError: If it is no such list.
    """
    text = cell.strip()
    if not text:
        return ()
    if len(text) > MAX_CELL:
        raise ValueError(f"a cell of {len(text)} characters")
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError("a cell that is no list of strings") from error
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a cell that is no list of strings")
    return tuple(phrase for item in value if (phrase := " ".join(item.split())))


def read_rows(path: Path, report: RowReport) -> Iterator[GraphRow]:
    """Yields the rows of a CSV; bad ones go into `report`.

    Args:
        path: A CSV with the columns `COLUMNS`, UTF-8.
        report: Counts rows and remembers line numbers.

    Raises:
        ValueError: If a column is missing.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(
                f"A graph CSV needs the columns {', '.join(COLUMNS)}. Got {path} without {', '.join(missing)}."
            )
        for row in reader:
            try:
                place = " ".join((row["place"] or "").split())
                if not place:
                    raise ValueError("no place")
                verbs, scenarios = parse_cell(row["verb_obj_word"] or ""), parse_cell(row["scenario_word"] or "")
                report.good += 1
                yield GraphRow(row["Input"] or "", verbs, scenarios, place)
            except ValueError as error:
                report.bad.append((reader.line_num, str(error)))
