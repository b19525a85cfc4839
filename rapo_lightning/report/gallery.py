"""Writes `report/index.html`: per prompt and round the video, the prompt, the scores and the critique."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from ..data.trajectory import Row, average_ranks, best_round, by_prompt, read_rows, score_columns
from ..errors import UserError


def _scores(row: Row, rank: float) -> str:
    cells = [f"<dt>mean rank</dt><dd>{rank:.2f}</dd>"]
    for column in score_columns(row):
        value = "missing" if row[column] is None else f"{row[column]:.3f}"
        cells.append(f"<dt>{escape(column.removeprefix('score_').replace('_', ' '))}</dt><dd>{value}</dd>")
    return f"<dl>{''.join(cells)}</dl>"


def _note(label: str, text: str) -> str:
    return f'<p class="note"><b>{label}</b> {escape(text)}</p>' if text else ""


def _round(row: Row, rank: float, is_best: bool, base: str) -> str:
    video = '<div class="empty">no video kept</div>'
    if row["video"]:
        source = escape(f"{base}/{row['video']}", quote=True)
        video = f'<video src="{source}" controls loop muted autoplay playsinline preload="metadata"></video>'
    mark = '<span class="best">best</span>' if is_best else ""
    return (
        f"<article{' class=winner' if is_best else ''}><h3>round {row['round']} {mark}</h3>{video}"
        f'<p class="prompt">{escape(row["prompt"])}</p>{_scores(row, rank)}'
        f"{_note('critique', row['critique'])}{_note('physics', row['physics'])}</article>"
    )


def _trajectory(rounds: Sequence[Row], base: str) -> str:
    winner = best_round(rounds)["round"]
    ranks = average_ranks(rounds)
    cards = "".join(_round(row, rank, row["round"] == winner, base) for row, rank in zip(rounds, ranks, strict=True))
    first = rounds[0]
    law = f'<p class="law">{escape(first["phys_law"])}</p>' if first["phys_law"] else ""
    return f'<section><h2>{escape(first["source_prompt"])}</h2>{law}<div class="rounds">{cards}</div></section>'


def _results(path: Path) -> str:
    if not path.is_file():
        return ""
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    closure = results["gap_closure"]
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{arm['mean']:.3f}</td><td>{arm['ci95'][0]:.3f} to {arm['ci95'][1]:.3f}</td>"
        f"<td>{format(closure[name], '.2f') if name in closure else ''}</td><td>{arm['videos_per_prompt']}</td>"
        f"<td>{arm['n']}</td></tr>"
        for name, arm in results["arms"].items()
    )
    head = "<tr><th>arm</th><th>mean</th><th>95 % interval</th><th>gap closure</th><th>videos</th><th>prompts</th></tr>"
    return f"<section><h2>Evaluation: {escape(results['metric'])}</h2><table>{head}{rows}</table></section>"


def write_report(run: Path, limit: int = 200) -> Path:
    """Writes the gallery of a run.

    Args:
        run: The run folder.
        limit: Most prompts to show; a browser holds a few hundred videos.

    Returns:
        The page.

    Raises:
        UserError: If the run has no trajectories.
    """
    rows = read_rows(run / "trajectories")
    # A folder may hold the rows of several recipes; rounds of different recipes are no trajectory.
    hashes = dict.fromkeys(row["recipe_hash"] for row in rows)
    groups = [g for name in hashes for g in by_prompt(r for r in rows if r["recipe_hash"] == name).values()]
    if not groups:
        raise UserError(f"`report` needs a run folder with trajectories. Got {str(run)!r}; run `collect` first.")
    target = run / "report" / "index.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    shown = groups[:limit]
    sections = "".join(_trajectory(rounds, "..") for rounds in shown)
    page = Template((files(__package__) / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(run.resolve().name),
        summary=f"{len(groups)} prompts, {len(rows)} videos; {len(shown)} prompts shown.",
        results=_results(run / "results.json"),
        sections=sections,
    )
    temporary = target.with_suffix(".tmp")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, target)
    return target
