"""Trajectories: one row per prompt and round, append-only on disk, and the ranks computed from them on reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import Features, List, Value

from ..errors import RunError
from .store import PartStore, Row, read_parts

IDENTITY = ("prompt_id", "round", "recipe_hash")
"""Columns that identify a row."""
_TEXTS = ("source_prompt", "prompt")

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
    "restated": Value("string"),
    "physics": Value("string"),
    "flow": List(List(Value("float32"))),
    "motion": Value("string"),
    "next_prompt": Value("string"),
    "shortened": Value("string"),
    "ended": Value("string"),
    "shortcuts": Value("string"),
    "video_model": Value("string"),
    "vision_language_model": Value("string"),
    "language_model": Value("string"),
    "recipe_hash": Value("string"),
    "seconds_generate": Value("float32"),
    "seconds_judge": Value("float32"),
    "seconds_rewrite": Value("float32"),
    "calls": List(
        {
            "by": Value("string"),
            "prompt_tokens": Value("int32"),
            "completion_tokens": Value("int32"),
            "seconds": Value("float32"),
            "failed": Value("bool"),
            "remark": Value("string"),
        }
    ),
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
            verifiers: Names of the verifiers of this run; columns of earlier runs' verifiers stay.

        Raises:
            RunError: If the folder cannot be created.
        """
        names = dict.fromkeys([*_verifiers_of(folder), *verifiers])
        super().__init__(folder, trajectory_features(list(names)), IDENTITY)


def _verifiers_of(folder: Path) -> list[str]:
    """Names of the verifiers that have a column in any part."""
    columns = (name for names in _columns_of(folder) for name in names)
    return list(dict.fromkeys(name.removeprefix("score_") for name in columns if name.startswith("score_")))


def _columns_of(folder: Path) -> list[list[str]]:
    """Columns of each part; parts that cannot be read are `read_parts`' to name."""
    found: list[list[str]] = []
    for path in sorted(folder.glob("*.parquet")):
        try:
            found.append(pyarrow.parquet.read_schema(path).names)
        except (pyarrow.ArrowException, OSError):
            continue
    return found


def common_columns(folders: Sequence[Path], verifiers: Sequence[str]) -> list[str]:
    """Brings stores that are read as one dataset to the same columns.

    Args:
        folders: Their folders.
        verifiers: Names of the verifiers that are to have a column.

    Returns:
        The names of all verifiers that have one now.
    """
    names = sorted({*verifiers, *(name for folder in folders for name in _verifiers_of(folder))})
    wanted = set(trajectory_features(names))
    for folder in folders:
        if any(set(columns) != wanted for columns in _columns_of(folder)):
            TrajectoryStore(folder, names).clean()
    return names


def read_rows(folder: Path, recipe_hash: str | None = None) -> list[Row]:
    """Reads a store without opening it for writing; arguments, result and errors as in `store.read_parts`.

    Raises:
        RunError: If a row lacks its texts, such as one that another program wrote.
    """
    rows = read_parts(folder, IDENTITY, recipe_hash)
    missing = [name for name in _TEXTS if any(row.get(name) is None for row in rows)]
    if missing:
        raise RunError(
            f"Rows of trajectories must have the texts {', '.join(_TEXTS)}. Got {folder} with rows without {', '.join(missing)}; move "
            "the part with them away."
        )
    return rows


def restated_request(rounds: Sequence[Row]) -> str:
    """A prompt in the judge's words, as most of its rounds have it, the first of equals; empty where none says it."""
    said = Counter(text for row in rounds if (text := row.get("restated")))
    return max(said, key=lambda text: said[text], default="")


def by_prompt(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows grouped by prompt, rounds in order."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["prompt_id"], row["round"])):
        groups.setdefault(row["prompt_id"], []).append(row)
    return groups
