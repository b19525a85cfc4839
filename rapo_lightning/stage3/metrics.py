"""The logs of all starts of a training, joined into one table."""

from __future__ import annotations

import csv
from pathlib import Path

from ..data.csv_log import csv_text


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


def joined_metrics(folder: Path, training: str) -> str:
    """The metrics of a training as CSV, empty if none were logged; a step that was repeated after a kill counts once.

    Args:
        folder: The run's folder.
        training: The training's identity.
    """
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    columns: dict[str, None] = {}
    for logs in _log_folders(folder, training):
        if (logs / "metrics.csv").is_file():
            with (logs / "metrics.csv").open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    columns.update(dict.fromkeys(row))
                    # A step has up to four lines: its rate, its loss, the validation's, the epoch's.
                    filled = sorted(name for name, value in row.items() if value)
                    rows[row.get("epoch") or "", row["step"], *filled] = row
    if not rows:
        return ""
    return csv_text([list(columns), *([row.get(name, "") for name in columns] for row in rows.values())])
