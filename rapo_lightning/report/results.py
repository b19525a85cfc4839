"""The table of a run's evaluation, from `results.json`."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from ..errors import RunError

_HEAD = "<tr><th>arm</th><th>mean</th><th>95 % interval</th><th>gap closure</th><th>videos</th><th>prompts</th></tr>"


def results_table(path: Path) -> str:
    """The results as HTML; nothing where there are none.

    Args:
        path: The run's `results.json`.

    Raises:
        RunError: If it is damaged.
    """
    if not path.is_file():
        return ""
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        closure = results["gap_closure"]
        rows = "".join(_line(name, arm, closure.get(name)) for name, arm in results["arms"].items())
        metric = escape(results["metric"])
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        RecursionError,
    ) as error:
        raise RunError(
            f"{path} must hold what `evaluate` writes. Got {type(error).__name__}: {str(error)[:200]} on reading it; run "
            "`evaluate` again, or move the file away."
        ) from error
    return f"<section><h2>Evaluation: {metric}</h2><table>{_HEAD}{rows}</table></section>"


def _line(name: str, arm: dict[str, Any], closure: float | None) -> str:
    low, high = arm["ci95"]
    cells = [
        escape(name),
        f"{float(arm['mean']):.3f}",
        f"{float(low):.3f} to {float(high):.3f}",
        "" if closure is None else f"{float(closure):.2f}",
        f"{int(arm['videos_per_prompt'])}",
        f"{int(arm['n'])}",
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
