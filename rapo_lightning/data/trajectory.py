"""Trajectories: one row per prompt and round, append-only on disk, and the ranks computed from them on reading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datasets import Features, List, Value

from .store import PartStore, Row, read_parts

IDENTITY = ("prompt_id", "round", "recipe_hash")
"""Columns that identify a row."""

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


class TrajectoryStore(PartStore):
    """The rounds of a run. Identity of a row: (prompt_id, round, recipe_hash)."""

    def __init__(self, folder: Path, verifiers: Sequence[str]) -> None:
        """Opens or creates the store.

        Args:
            folder: Folder of the parts, `runs/<name>/trajectories`.
            verifiers: Names of the verifiers of this run.

        Raises:
            RunError: If the folder cannot be created.
        """
        super().__init__(folder, trajectory_features(verifiers), IDENTITY)


def read_rows(folder: Path, recipe_hash: str | None = None) -> list[Row]:
    """Reads a store without opening it for writing; arguments, result and errors as in `store.read_parts`."""
    return read_parts(folder, IDENTITY, recipe_hash)


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
