"""The table of a run's evaluation, from `results.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..errors import RunError


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
        metric, compare = escape(results["metric"]), escape(results.get("compare", ""))
        tables = _table(results, compare)
        groups = results.get("groups", {})
        for name, block in groups.items() if len(groups) > 1 else ():
            tables += f"<h3>{escape(name)}</h3>{_table(block, compare)}"
        count = int(results.get("not_scored", 0))
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
    note = f'<p class="note">{count} prompts are left out: an arm has no score of them.</p>' if count else ""
    return f"<section><h2>Evaluation: {metric}</h2>{tables}{note}</section>"


def _table(block: dict[str, Any], compare: str) -> str:
    chance, closure = block.get("chance"), dict(block["gap_closure"].items())
    names = ["arm", "mean", "95 % interval"]
    names += [] if chance is None else ["chance"]
    names += [f"minus {compare}"] if compare else []
    head = "".join(f"<th>{name}</th>" for name in [*names, "gap closure", "picked", "videos", "prompts"])
    rows = ""
    for name, arm in block["arms"].items():
        cells = [escape(name), f"{float(arm['mean']):.3f}", _interval(arm["ci95"])]
        cells += [] if chance is None else [f"{float(chance):.3f}"]
        cells += [_difference(arm.get("difference"))] if compare else []
        cells.append(f"{float(closure[name]):.2f}" if name in closure else "")
        cells.append(f"{float(arm['picked']):.3f}" if "picked" in arm else "")
        cells += [f"{float(arm['videos_per_prompt']):.4g}", f"{int(arm['n'])}"]
        rows += f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    return f"<table><tr>{head}</tr>{rows}</table>"


def _interval(ends: Sequence[Any], sign: str = "") -> str:
    low, high = ends
    return f"{float(low):{sign}.3f} to {float(high):{sign}.3f}"


def _difference(found: dict[str, Any] | None) -> str:
    return f"{float(found['mean']):+.3f} ({_interval(found['ci95'], '+')})" if found else ""
