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

SCHEMA_VERSION = 1
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
        table = Dataset.from_list([{**row, "schema_version": SCHEMA_VERSION} for row in rows], self.features)
        name = f"part-{uuid.uuid4().hex}.parquet"
        temporary = self.folder / f".{name}.tmp"
        try:
            with temporary.open("wb") as file:
                pyarrow.parquet.write_table(table.data.table, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.folder / name)
        except OSError as error:
            raise RunError(
                f"Rows cannot be written to {self.folder}: {error.strerror}. Rows written before are safe; make room or "
                "choose another `--out`, and run the same command again to go on."
            ) from error

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
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"The part {path} cannot be read ({reason}). Move it away and run the command that wrote it again: only "
                "its rows are made anew."
            ) from error
        for row in part:
            if recipe_hash is None or row["recipe_hash"] == recipe_hash:
                found.setdefault(tuple(row[name] for name in identity), row)
    return [found[key] for key in sorted(found)]
