"""Candidates that are pairs already: a CSV, parquet files, a dataset saved to disk, or one of the hub."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data.ids import prompt_id
from ...data.store import Row
from ...data.tables import read_table
from ...data.trajectory import score_columns
from ...errors import UserError
from .filter import GIVEN_GAP, Candidate

SPLIT = "split"
"""Column of a ready pair's row that says where the dataset put it; empty where it has no splits."""
_SPLITS = ("train", "validation")


def ready_candidates(source: str) -> tuple[list[Candidate], int]:
    """The pairs of a file or dataset with the columns `prompt` and `completion`, texts or turns as TRL has them.

    Args:
        source: A CSV, a parquet file, a folder of parquet files or written by `save_to_disk`, or the name of a dataset on the hub.

    Returns:
        The complete pairs, and how many rows lack a text.

    Raises:
        UserError: If it is not there, cannot be read, lacks a column, or has no complete pair.
    """
    found = _read(source)
    rows: list[Row] = []
    for split, given in found.items():
        _check_columns(list(given[0]) if given else ["prompt", "completion"], source)
        _refuse_bad(given, source)
        rows += [_row(row, split, source) for row in given]
    complete = [row for row in rows if row["source_prompt"] and row["prompt"]]
    if not complete:
        raise UserError(f"Ready pairs need a row with both texts. Got no complete row of {len(rows)} in {source}.")
    # Without scores nothing tells which of a prompt's pairs is best: they do not compete.
    compete = any(score_columns(row) for row in complete)
    groups: dict[str, list[Row]] = {}
    for place, row in enumerate(complete):
        groups.setdefault(row["prompt_id"] if compete else str(place), []).append(row)
    candidates = [Candidate(row, None, tuple(group), key) for key, group in groups.items() for row in group]
    return candidates, len(rows) - len(complete)


def _row(given: Mapping[str, Any], split: str, source: str) -> Row:
    request = _text(given["prompt"], "user", "prompt", source)
    text = _text(given["completion"], "assistant", "completion", source)
    law = str(given.get("phys_law") or "")
    rest = {name: value for name, value in given.items() if name not in ("prompt", "completion", "score_gap")}
    # Always there, so that a column of the same name is never taken for it.
    gap = float(given["score_gap"]) if _is_number(given.get("score_gap")) else math.nan
    scores = {name: float(value) for name, value in rest.items() if name.startswith("score_") and _is_number(value)}
    own = {name: value for name, value in rest.items() if not name.startswith("score_")}
    identity = str(given.get("prompt_id") or prompt_id(request, law))
    return {**own, **scores, GIVEN_GAP: gap, "prompt_id": identity, "source_prompt": request, "phys_law": law, "prompt": text, "round": 0,
            SPLIT: split}  # fmt: skip


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _text(value: Any, role: str, column: str, source: str) -> str:
    """A text, or the last turn of a role: the recipe's own instruction stands before it."""
    found = value
    if isinstance(value, list) and all(isinstance(turn, Mapping) for turn in value):
        found = next((turn.get("content") for turn in reversed(value) if turn.get("role") == role), None)
    # Anything else would be trained on as Python writes it.
    if found is not None and not isinstance(found, str):
        raise UserError(
            f"Ready pairs have texts, or turns with a role and a text, in prompt and completion. Got {str(value)[:120]} as a "
            f"{column} in {source}; turn that column into texts."
        )
    return (found or "").strip()


def _read(source: str) -> dict[str, list[Row]]:
    path = Path(source)
    if path.is_file() and path.suffix != ".parquet":
        columns, rows = read_table(path, "The pairs CSV")
        _check_columns(columns, source)
        return {"": list(rows)}
    try:
        loaded = _load(path, source)
    except Exception as error:  # datasets, pyarrow and the hub raise errors of their own
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(
            "Ready pairs are a CSV, parquet, a dataset saved to disk, or the name of one on the hub (OWNER/NAME). Got "
            f"{source!r}, which cannot be read: {reason}."
        ) from error
    if len(loaded) > 1 and not set(loaded) <= set(_SPLITS):
        raise UserError(
            f"A dataset of pairs has the splits train and validation, or a single one. Got {', '.join(loaded)} in {source}; name "
            "one of them, or rename them."
        )
    return {split if len(loaded) > 1 else "": list(rows) for split, rows in loaded.items()}


def _check_columns(columns: Sequence[str], source: str) -> None:
    if not {"prompt", "completion"} <= set(columns):
        raise UserError(
            f"Ready pairs need the columns prompt and completion. Got {list(columns)} in {source}; rename two."
        )


def _refuse_bad(rows: Sequence[Mapping[str, Any]], source: str) -> None:
    bad = sum(str(row.get("label")).lower() == "false" for row in rows)
    if bad:
        raise UserError(
            f"Ready pairs are answers to learn. Got {bad} whose label is false in {source}, as the view `unpaired` has them; take the view "
            "`sft`, or leave these rows out."
        )


def _load(path: Path, source: str) -> dict[str, Any]:
    import datasets

    if (path / "state.json").is_file():
        return {"train": datasets.load_from_disk(source)}
    if (path / "dataset_dict.json").is_file():
        return dict(datasets.load_from_disk(source))
    if path.is_file():
        return dict(datasets.load_dataset("parquet", data_files=source))
    # A folder is searched for its splits, a name on the hub as well.
    return dict(datasets.load_dataset(source))
