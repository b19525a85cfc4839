"""Append-only folders of parquet parts, the form in which everything that costs time is kept."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import Dataset, Features

from ..errors import RunError

SCHEMA_VERSION = 5
"""Version of the rows; 1 had no records beside its rows, and trajectories before 3 had no `motion`, `calls`,
`shortened` and `ended`, before 4 no `shortcuts`, before 5 no `restated`. All are read."""
Row = dict[str, Any]


def make_folder(folder: Path) -> Path:
    """Creates a folder if need be.

    Raises:
        RunError: If it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"The folder {folder} cannot be created: {error.strerror}. Choose another `--out`.") from error
    return folder


class PartStore:
    """A folder of parquet parts.

    A part is written under a temporary name, flushed to disk and renamed, so a reader never sees half of one and a kill
    loses at most what was not yet handed over.
    """

    def __init__(self, folder: Path, features: Features, identity: tuple[str, ...]) -> None:
        """Opens or creates the store.

        Args:
            folder: Folder of the parts.
            features: Columns, the same in every part.
            identity: Columns that identify a row, `recipe_hash` among them.

        Raises:
            RunError: If the folder cannot be created.
        """
        self.folder, self.features, self.identity = make_folder(folder), features, identity

    def append(self, rows: Sequence[Row]) -> None:
        """Writes rows as one new part; they are on disk when this returns.

        Raises:
            RunError: If the disk is full or read-only; parts written before are not touched.
        """
        # Columns of other recipes' verifiers stay empty.
        numbered = [{**dict.fromkeys(self.features), **row, "schema_version": SCHEMA_VERSION} for row in rows]
        self._write(numbered, self.folder / f"part-{uuid.uuid4().hex}.parquet")

    def _write(self, rows: Sequence[Row], path: Path) -> None:
        table = Dataset.from_list(list(rows), self.features).data.table
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                pyarrow.parquet.write_table(table, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RunError(
                f"Rows cannot be written to {self.folder}: {error.strerror}. Rows written before are safe; make room or "
                "choose another `--out`, and run the same command again to go on."
            ) from error

    def clean(self) -> None:
        """Removes what a kill left half-written and rows that a later row of their identity has replaced.

        Parts with other columns than this store's get them, empty: `load_dataset` reads only parts that are alike.
        """
        for path in self.folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)
        current = {self._key(row): row.get("next_prompt") for row in self.rows()}
        seen: set[tuple[Any, ...]] = set()
        for path in sorted(self.folder.glob("*.parquet")):
            rows = pyarrow.parquet.read_table(path).to_pylist()
            kept = [
                row for row in rows if self._key(row) not in seen and row.get("next_prompt") == current[self._key(row)]
            ]
            seen |= {self._key(row) for row in kept}
            if not kept:
                path.unlink()
            elif len(kept) < len(rows) or set(pyarrow.parquet.read_schema(path).names) != set(self.features):
                self._write([{name: row.get(name) for name in self.features} for row in kept], path)

    def _key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.identity)

    def rows(self, recipe_hash: str | None = None) -> list[Row]:
        """All rows; see `read_parts`."""
        return read_parts(self.folder, self.identity, recipe_hash)


def read_parts(folder: Path, identity: tuple[str, ...], recipe_hash: str | None = None) -> list[Row]:
    """All rows of a store, each identity once, sorted by it.

    Args:
        folder: The folder.
        identity: Columns that identify a row.
        recipe_hash: Only rows of this hash; None for all.

    Raises:
        RunError: If a part cannot be read.
    """
    found: dict[tuple[Any, ...], Row] = {}
    for path in sorted(folder.glob("*.parquet")):
        try:
            part = pyarrow.parquet.read_table(path).to_pylist()
        except FileNotFoundError:
            # Another process of the run has cleaned up since the folder was listed: its rows are in other parts.
            continue
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"The part {path} cannot be read ({reason}). Move it away and run the command that wrote it again: only "
                "its rows are made anew."
            ) from error
        _check_columns(part, path, identity)
        for row in part:
            key = tuple(row[name] for name in identity)
            if recipe_hash in (None, row["recipe_hash"]) and (key not in found or _continues(row, found[key])):
                found[key] = row
    return [found[key] for key in sorted(found)]


def _continues(row: Row, other: Row) -> bool:
    """Whether a row takes the place of another of its identity: a last round that was continued later has a rewrite."""
    return bool(row.get("next_prompt")) and not other.get("next_prompt")


def _check_columns(part: Sequence[Row], path: Path, identity: tuple[str, ...]) -> None:
    missing = [name for name in ("schema_version", *identity) if part and name not in part[0]]
    if missing:
        raise RunError(
            f"Rows must have the columns {', '.join(identity)} and schema_version. Got {path} without {', '.join(missing)}; "
            "move it away."
        )
    newer = [row["schema_version"] for row in part if row["schema_version"] > SCHEMA_VERSION]
    if newer:
        raise RunError(
            f"The rows in {path} must be of schema version {SCHEMA_VERSION} at most. Got version {newer[0]}, written by a "
            "later rapo-lightning; upgrade it."
        )
