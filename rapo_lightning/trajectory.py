"""Trajectories: one row per prompt and round, append-only on disk, and the ranks computed from them on reading."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import Dataset, Features, List, Value

from .errors import RunError

SCHEMA_VERSION = 1
Row = dict[str, Any]

_COLUMNS: dict[str, Any] = {
    "schema_version": Value("int32"),
    "prompt_id": Value("string"),
    "source_prompt": Value("string"),
    "phys_law": Value("string"),
    "round": Value("int32"),
    "prompt": Value("string"),
    "seed": Value("int64"),
    "video": Value("string"),
    "critique": Value("string"),
    "physics": Value("string"),
    "flow": List(List(Value("float32"))),
    "next_prompt": Value("string"),
    "video_model": Value("string"),
    "vision_language_model": Value("string"),
    "language_model": Value("string"),
    "recipe_hash": Value("string"),
    "seconds_generate": Value("float32"),
    "seconds_judge": Value("float32"),
    "seconds_rewrite": Value("float32"),
}


def trajectory_features(verifiers: Sequence[str]) -> Features:
    """The columns of a trajectory, the same in every part: a part whose `critique` is all empty must not lose its type.

    Args:
        verifiers: Names of the verifiers; each adds `score_<name>`, null where it could not score.
    """
    columns = dict(_COLUMNS)
    position = list(columns).index("critique")
    scores = {f"score_{name}": Value("float32") for name in verifiers}
    items = list(columns.items())
    return Features(dict(items[:position] + list(scores.items()) + items[position:]))


def score_columns(row: Row) -> list[str]:
    """Names of the score columns of a row."""
    return [name for name in row if name.startswith("score_")]


class TrajectoryStore:
    """A folder of parquet parts.

    A part is written under a temporary name, flushed to disk and renamed, so a reader never sees half of one and a kill
    loses at most what was not yet handed over. Identity of a row: (prompt_id, round, recipe_hash).
    """

    def __init__(self, folder: Path, verifiers: Sequence[str]) -> None:
        """Opens or creates the store.

        Args:
            folder: Folder of the parts, `runs/<name>/trajectories`.
            verifiers: Names of the verifiers of this run.

        Raises:
            RunError: If the folder cannot be created.
        """
        self.folder = folder
        self.features = trajectory_features(verifiers)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"The folder {folder} cannot be created: {error.strerror}. Choose another `--out`."
            ) from error

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
        """All rows, each identity once, sorted by prompt and round.

        Args:
            recipe_hash: Only rows of this hash; None for all.

        Raises:
            RunError: If a part cannot be read.
        """
        return read_rows(self.folder, recipe_hash)


def read_rows(folder: Path, recipe_hash: str | None = None) -> list[Row]:
    """Reads a store without opening it for writing; arguments, result and errors as in `TrajectoryStore.rows`."""
    found: dict[tuple[str, int, str], Row] = {}
    for path in sorted(folder.glob("*.parquet")):
        try:
            part = pyarrow.parquet.read_table(path).to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"The trajectory part {path} cannot be read ({reason}). Move it away and run `collect` again: only its "
                "rows are made anew."
            ) from error
        for row in part:
            if recipe_hash is None or row["recipe_hash"] == recipe_hash:
                found.setdefault((row["prompt_id"], row["round"], row["recipe_hash"]), row)
    return [found[key] for key in sorted(found)]


def by_prompt(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows grouped by prompt, rounds in order."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["prompt_id"], row["round"])):
        groups.setdefault(row["prompt_id"], []).append(row)
    return groups


def unbroken(rounds: Sequence[Row]) -> list[Row]:
    """The rounds of a prompt up to the first that is missing, as after a damaged part was moved away.

    Args:
        rounds: The rows of one prompt, in order.
    """
    return [row for index, row in enumerate(rounds) if row["round"] == index]


def average_ranks(rounds: Sequence[Row]) -> list[float]:
    """Mean rank of each round of one prompt over the verifiers (RAPO++, section 4.1), 1 is best.

    Ties share the mean of their ranks. A score that is missing ranks last.

    Args:
        rounds: The rows of one prompt.
    """
    ranks = [0.0] * len(rounds)
    columns = score_columns(rounds[0])
    for column in columns:
        values = [-1e30 if row[column] is None else row[column] for row in rounds]
        for index, value in enumerate(values):
            better = sum(other > value for other in values)
            equal = sum(other == value for other in values)
            ranks[index] += better + (equal + 1) / 2
    return [rank / max(len(columns), 1) for rank in ranks]


def best_round(rounds: Sequence[Row]) -> Row:
    """The round with the lowest mean rank; the earliest on a tie, since the paper gives no rule."""
    ranks = average_ranks(rounds)
    return rounds[min(range(len(rounds)), key=lambda index: (ranks[index], rounds[index]["round"]))]


def mean_score(row: Row) -> float:
    """Mean of the verifiers' scores of a row (the paper's S(v)); missing scores are left out."""
    values = [row[column] for column in score_columns(row) if row[column] is not None]
    return sum(values) / len(values) if values else float("-inf")
