"""Append-only CSV files that a kill cannot spoil: what a long command has made so far, and where it goes on."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import RunError, UserError


class CsvLog:
    """A CSV that grows by batches.

    A batch is on disk when `append` returns. Opening a file again drops half a record that a kill left at its end.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Opens or creates the file.

        Args:
            path: The file.
            columns: Its header.

        Raises:
            UserError: If the file has another header.
            RunError: If it cannot be written.
        """
        self.path, self.columns = path, list(columns)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = _whole_records(path) if path.is_file() else 0
            if not whole:
                self._refuse_other_text()
                path.write_bytes(csv_text([self.columns]).encode())
                return
            with path.open(encoding="utf-8", newline="") as file:
                header = next(csv.reader(file))
            if header == self.columns:
                os.truncate(path, whole)
        except OSError as error:
            raise self._error(error) from error
        if header != self.columns:
            raise self._other(", ".join(header))

    def _refuse_other_text(self) -> None:
        """Half a header may be written anew; anything else is not ours to overwrite."""
        found = self.path.read_bytes() if self.path.is_file() else b""
        if not csv_text([self.columns]).encode().startswith(found):
            raise self._other("a file without a header line")

    def rows(self) -> Iterator[list[str]]:
        """The records, without the header."""
        with self.path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            next(reader)
            yield from reader

    def append(self, rows: Sequence[Sequence[object]]) -> None:
        """Adds records.

        Raises:
            RunError: If the disk is full or read-only; records written before are not touched.
        """
        try:
            with self.path.open("ab") as file:
                file.write(csv_text(rows).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._error(error) from error

    def _other(self, found: str) -> UserError:
        return UserError(
            f"{self.path} is to be continued and must have the columns {', '.join(self.columns)}. Got {found}; choose "
            "another file."
        )

    def _error(self, error: OSError) -> RunError:
        return RunError(f"{self.path} cannot be written: {error.strerror}. Make room or choose another file.")


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Records as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _whole_records(path: Path) -> int:
    """Bytes up to the end of the last whole record: a line end outside of quotes."""
    end = position = quotes = 0
    with path.open("rb") as file:
        for line in file:
            position += len(line)
            quotes += line.count(b'"')
            if line.endswith(b"\n") and quotes % 2 == 0:
                end = position
    return end
