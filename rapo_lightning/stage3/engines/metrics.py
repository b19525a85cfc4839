"""The logs of all starts of a training, joined into one table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from ...data.csv_log import csv_text


def _log_folders(folder: Path, training: str) -> list[Path]:
    found = (folder / "logs").glob(f"{training}-*")
    return sorted(found, key=lambda path: int(path.name.rsplit("-", 1)[1]))


def next_log(folder: Path, training: str) -> str:
    """Name of the log folder of a training's next start.

    Args:
        folder: The run's folder.
        training: The training's identity.
    """
    return f"{training}-{len(_log_folders(folder, training))}"


def joined_metrics(folder: Path, trainings: Sequence[str]) -> str:
    """The metrics of trainings as CSV, empty if none were logged; a step that was repeated after a kill counts once.

    Where there are several, a column `phase` counts them.

    Args:
        folder: The run's folder.
        trainings: The trainings' identities, in order.
    """
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    columns: dict[str, None] = {}
    starts = [(str(phase), logs) for phase, name in enumerate(trainings, 1) for logs in _log_folders(folder, name)]
    for phase, logs in starts:
        if (logs / "metrics.csv").is_file():
            with (logs / "metrics.csv").open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    columns.update(dict.fromkeys(row))
                    # A step has up to four lines: its rate, its loss, the validation's, the epoch's.
                    filled = sorted(name for name, value in row.items() if value)
                    rows[phase, row.get("epoch") or "", row["step"], *filled] = row
                    if len(trainings) > 1:
                        row["phase"] = phase
    if not rows:
        return ""
    columns.update({"phase": None} if len(trainings) > 1 else {})
    return csv_text([list(columns), *([row.get(name, "") for name in columns] for row in rows.values())])


def best_val_loss(folder: Path, best_by: str) -> float | None:
    """The validation loss of the exported epoch in a run's `metrics.csv`; None if it is not known.

    Args:
        folder: The run's folder.
        best_by: `stage3.best_by`.
    """
    path = folder / "metrics.csv"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    last = max((row.get("phase") or "" for row in rows), default="")
    known = [row for row in rows if (row.get("phase") or "") == last and row.get("val_loss")]
    if best_by == "val_preference":
        known = sorted(known, key=lambda row: -float(row.get("val_preference") or "-inf"))[:1]
    return min((float(row["val_loss"]) for row in known), default=None)
