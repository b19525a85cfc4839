"""Text and CSV files that people bring along, read whole; what is wrong with one is a sentence."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

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


def read_records(path: Path, what: str) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV, each with the number of the line that it ends in; empty lines are left out.

    Args:
        path: The file.
        what: What it is, for messages.

    Raises:
        UserError: If it is not UTF-8.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(read_text(path, what), newline=""))
    for record in reader:
        if record:
            yield reader.line_num, record


def read_table(path: Path, what: str) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of a CSV with a header; a cell that is missing is empty, one too many is left out.

    Arguments and errors as in `read_records`.
    """
    records = [record for _, record in read_records(path, what)]
    columns = records[0] if records else []
    rows = [dict(zip(columns, [*row, *[""] * len(columns)], strict=False)) for row in records[1:]]
    return columns, rows
