"""Writes `report/index.html`: per prompt and round the video, the prompt, the scores and the critique.

A run folder may come from somebody else. Whatever it says is escaped or formatted as a number, the page may load nothing but
videos of the run, and nothing is written outside the run folder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path, PurePosixPath
from string import Template
from urllib.parse import quote, urlsplit

import yaml

from ..data.ranking import Ranking, average_ranks, best_round, known_score, missed_gates
from ..data.trajectory import Row, by_prompt, read_rows, score_columns
from ..errors import RunError, UserError
from ..running.folder import write_text
from .results import results_table

_TEXTS = ("source_prompt", "prompt", "recipe_hash", "prompt_id")
_NOTES = ("phys_law", "video", "critique", "restated", "physics", "shortened", "ended", "shortcuts")


def _check(row: Row, folder: Path) -> None:
    """Refuses a row that has not the columns and types that `collect` writes."""
    wrong = [name for name in _TEXTS if not isinstance(row.get(name), str)]
    wrong += [name for name in _NOTES if not isinstance(row.get(name) or "", str)]
    wrong += [name for name in score_columns(row) if not isinstance(row[name], float | int | None)]
    wrong += [] if isinstance(row.get("round"), int) else ["round"]
    if wrong:
        raise RunError(
            f"The trajectories in {folder} must be what `collect` writes. Got {row.get(wrong[0])!r} for `{wrong[0]}`; move the "
            "part with it away and run `collect` again."
        )


def _own_scores(rounds: Sequence[Row]) -> list[Row]:
    """The rounds of a prompt without the scores that none of them has: columns of other recipes' verifiers."""
    columns = dict.fromkeys(column for row in rounds for column in score_columns(row))
    own = [column for column in columns if any(row.get(column) is not None for row in rounds)]
    return [
        {name: value for name, value in row.items() if name not in columns} | {name: row.get(name) for name in own}
        for row in rounds
    ]


def _video(name: str) -> str:
    """The player of a video, whose path must stay within the run folder."""
    if not name:
        return '<div class="empty">no video kept</div>'
    path, address = PurePosixPath(name), urlsplit(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or address.scheme or address.netloc:
        return '<div class="empty">the video lies outside the run folder</div>'
    return f'<video src="../{quote(name)}" controls loop muted autoplay playsinline preload="metadata"></video>'


def _ranking(run: Path) -> Ranking:
    """How the run's recipe finds the best round; the paper's way where the run has none."""
    path = run / "recipe.yaml"
    if not path.is_file():
        return Ranking()
    try:
        stage2 = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("stage2") or {}
        return Ranking(**(stage2.get("ranking") or {}))
    except (OSError, AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
        raise RunError(
            f"{path} must be the recipe that `collect` keeps. Got {' '.join(str(error).split())}; move it away and run "
            "`report` again."
        ) from error


def _scores(row: Row, rank: float, ranking: Ranking) -> str:
    columns = score_columns(row)
    cells = [("mean rank", f"{rank:.2f}")] if columns else []
    cells += [("below gates", str(missed_gates(row, ranking)))] if ranking.gates else []
    for column in columns:
        label = column.removeprefix("score_").replace("_", " ")
        score = known_score(row, column)
        cells.append((escape(label), f"{score:.3f}" if score > -math.inf else "missing"))
    return f"<dl>{''.join(f'<dt>{label}</dt><dd>{value}</dd>' for label, value in cells)}</dl>"


def _note(label: str, text: str | None) -> str:
    return f'<p class="note"><b>{label}</b> {escape(text)}</p>' if text else ""


def _round(row: Row, rank: float, is_best: bool, ranking: Ranking) -> str:
    mark = '<span class="best">best</span>' if is_best else ""
    return (
        f"<article{' class=winner' if is_best else ''}><h3>round {row['round']:d} {mark}</h3>{_video(row['video'] or '')}"
        f'<p class="prompt">{escape(row["prompt"])}</p>{_scores(row, rank, ranking)}'
        f"{_note('critique', row['critique'])}{_note('request in its words', row.get('restated'))}{_note('physics', row['physics'])}"
        f"{_note('next prompt shortened', row.get('shortened'))}{_note('ended early', row.get('ended'))}"
        f"{_note('made with', row.get('shortcuts'))}</article>"
    )


def _trajectory(rounds: Sequence[Row], ranking: Ranking) -> str:
    rounds = _own_scores(rounds)
    winner, ranks, first = best_round(rounds, ranking)["round"], average_ranks(rounds, ranking), rounds[0]
    cards = "".join(_round(row, rank, row["round"] == winner, ranking) for row, rank in zip(rounds, ranks, strict=True))
    law = f'<p class="law">{escape(first["phys_law"])}</p>' if first["phys_law"] else ""
    return f'<section><h2>{escape(first["source_prompt"])}</h2>{law}<div class="rounds">{cards}</div></section>'


def _groups(run: Path) -> list[list[Row]]:
    """The rounds of each prompt; rounds of different recipes are no trajectory."""
    folder = run / "trajectories"
    try:
        rows = read_rows(folder)
    except (KeyError, TypeError) as error:
        raise RunError(
            f"The trajectories in {folder} must be what `collect` writes. Got rows without usable {error}; move the part with "
            "them away and run `collect` again."
        ) from error
    for row in rows:
        _check(row, folder)
    hashes = dict.fromkeys(row["recipe_hash"] for row in rows)
    return [g for name in hashes for g in by_prompt(r for r in rows if r["recipe_hash"] == name).values()]


def write_report(run: Path, limit: int = 200) -> Path:
    """Writes the gallery of a run.

    Args:
        run: The run folder.
        limit: Most prompts to show; a browser holds a few hundred videos.

    Returns:
        The page.

    Raises:
        UserError: If `limit` is below 1, the run has no trajectories, or its `report` is a link to elsewhere.
        RunError: If a file of the run is damaged, or the page cannot be written.
    """
    if limit < 1:
        raise UserError(f"A gallery shows at least one prompt. Got {limit} for `limit`; give 1 or more.")
    groups = _groups(run)
    if not groups:
        raise UserError(f"`report` needs a run folder with trajectories. Got {str(run)!r}; run `collect` first.")
    target = run / "report" / "index.html"
    if target.parent.is_symlink():
        raise UserError(
            f"The gallery is written into the run folder. Got {target.parent}, which is a link to elsewhere; remove it."
        )
    shown, ranking = groups[:limit], _ranking(run)
    page = Template((files(__package__) / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(run.resolve().name),
        summary=f"{len(groups)} prompts, {sum(map(len, groups))} videos; {len(shown)} prompts shown.",
        results=results_table(run / "results.json"),
        sections="".join(_trajectory(rounds, ranking) for rounds in shown),
    )
    write_text(target, page)
    return target
