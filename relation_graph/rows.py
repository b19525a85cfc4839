"""Reads the CSV rows that a relation graph is built from, without evaluating code."""

from __future__ import annotations

import ast
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .graph import GraphError

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
        places: The scenes, hubs of the graph; mostly one.
    """

    caption: str
    verb_objects: tuple[str, ...]
    scenarios: tuple[str, ...]
    places: tuple[str, ...]


@dataclass
class RowReport:
    """What could not be read: line numbers with the reason."""

    bad: list[tuple[int, str]] = field(default_factory=list)
    good: int = 0

    def __str__(self) -> str:
        """One line, naming the first bad rows."""
        shown = "; ".join(f"line {line}: {reason}" for line, reason in self.bad[:5])
        more = f"; and {len(self.bad) - 5} more" if len(self.bad) > 5 else ""
        return f"{self.good} rows read, {len(self.bad)} bad" + (f" ({shown}{more})" if shown else "")


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


def parse_place(cell: str) -> tuple[str, ...]:
    """The phrases of a place cell: a list as in `parse_cell`, or one phrase as it stands."""
    return parse_cell(cell) if cell.lstrip().startswith("[") else parse_cell(json.dumps([cell[: MAX_CELL + 1]]))


def _row(cells: dict[str, str | None]) -> GraphRow:
    places = parse_place(cells["place"] or "")
    verbs, scenarios = parse_cell(cells["verb_obj_word"] or ""), parse_cell(cells["scenario_word"] or "")
    if not places:
        raise ValueError("no place")
    return GraphRow(cells["Input"] or "", verbs, scenarios, places)


def read_rows(path: Path, report: RowReport) -> Iterator[GraphRow]:
    """Yields the rows of a CSV; bad ones go into `report`.

    A row without modifiers is good: its place becomes a hub without links. A row without a place is bad.

    Args:
        path: A CSV with the columns `COLUMNS`, UTF-8.
        report: Counts rows and remembers line numbers.

    Raises:
        GraphError: If the file is missing, not UTF-8, or lacks a column.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                raise GraphError(
                    f"A graph CSV needs the columns {', '.join(COLUMNS)}. Got {path} without {', '.join(missing)}."
                )
            for cells in reader:
                try:
                    row = _row(cells)
                except ValueError as error:
                    report.bad.append((reader.line_num, str(error)))
                else:
                    report.good += 1
                    yield row
    except OSError as error:
        raise GraphError(f"A graph is built from CSV files. Got {path}: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise GraphError(f"A graph CSV must be UTF-8 text. Got {path}: {error}.") from error
