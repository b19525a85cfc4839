"""Text and CSV files that people bring along; what is wrong with one is a sentence."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..errors import UserError

_LONGEST_FIELD = 2**31 - 1
"""Characters of a field; the csv module refuses more than 131,072 otherwise."""


def read_text(path: Path, what: str) -> str:
    """The text of a file, without a byte order mark.

    Args:
        path: The file.
        what: What it is, for messages, such as `The prompt file`.

    Raises:
        UserError: If it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} must be UTF-8. Got a byte that is not at position {error.start} of {path}; convert it, for example "
            "with `iconv -t UTF-8`."
        ) from error


@contextmanager
def opened(path: Path, what: str) -> Iterator[TextIO]:
    """A text file to be read piece by piece, its line ends as they are; otherwise as `read_text`."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield file
        except UnicodeDecodeError:
            # Says where in the file; the reader knows the place within a piece alone.
            read_text(path, what)
            raise


def read_lines(path: Path, what: str) -> Iterator[str]:
    """The lines of a text file, one at a time, as `str.splitlines` takes them; errors as in `read_text`."""
    with opened(path, what) as file:
        for line in file:
            yield from line.splitlines()


def read_records(path: Path, what: str) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV, each with the number of the line that it ends in; empty lines are left out.

    Args:
        path: The file.
        what: What it is, for messages.

    Raises:
        UserError: If it is not UTF-8.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    with opened(path, what) as file:
        reader = csv.reader(file)
        for record in reader:
            if record:
                yield reader.line_num, record


def read_table(path: Path, what: str) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of a CSV with a header; a cell that is missing is empty, one too many is left out.

    Arguments and errors as in `read_records`.
    """
    columns, rows = stream_table(path, what)
    return columns, list(rows)


def stream_table(path: Path, what: str) -> tuple[list[str], Iterator[dict[str, str]]]:
    """As `read_table`, with the rows one at a time."""
    records = (record for _, record in read_records(path, what))
    columns = next(records, [])
    return columns, (dict(zip(columns, [*row, *[""] * len(columns)], strict=False)) for row in records)
