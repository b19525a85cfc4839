"""A user's own videos, judged by a recipe's verifiers: what they are, and their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.tables import read_table
from ..data.videos import examine_video, frame_rate
from ..errors import UserError
from ..models import ModelPool
from ..verifiers import Judgement, View
from .judgements import Judge

COLUMNS = ("video", "prompt")
"""Columns that the list of videos must have; `phys_law` may be there."""


@dataclass(frozen=True)
class OwnVideo:
    """A video to be scored.

    Attributes:
        name: Its path in the folder, as the list has it.
        path: The file.
        prompt: What the user asked for.
        phys_law: The physical law, may be empty.
    """

    name: str
    path: Path
    prompt: str
    phys_law: str = ""


def read_list(folder: Path, source: Path) -> list[OwnVideo]:
    """Reads which video belongs to which prompt.

    Args:
        folder: Folder of the videos.
        source: CSV with the columns `video` and `prompt`, and `phys_law` where there are laws.

    Raises:
        UserError: If folder or CSV are missing, a column or all rows are, or a row names a file that is not in the folder.
    """
    if not folder.is_dir():
        raise UserError(f"`--videos` must name a folder. Got {str(folder)!r}, which is none.")
    if not source.is_file():
        raise UserError(f"The videos need a CSV with the columns video and prompt. Got no file {source}; write one.")
    columns, rows = read_table(source, "The list of videos")
    missing = [name for name in COLUMNS if name not in columns]
    if missing or not rows:
        found = f"the columns {', '.join(columns or ['none'])}" if missing else "no row"
        raise UserError(f"{source} must have the columns video and prompt, and a row for each video. Got {found}.")
    return [_own_video(folder, row, f"{source}, row {number}") for number, row in enumerate(rows, start=1)]


def _own_video(folder: Path, row: dict[str, str], where: str) -> OwnVideo:
    name, prompt = row["video"].strip(), row["prompt"].strip()
    path = folder / name
    inside = path.resolve().is_relative_to(folder.resolve())
    if not name or not prompt or not inside or not path.is_file():
        raise UserError(
            f"Each row must name a file in {folder} and its prompt. Got {name!r} and {prompt[:60]!r} in {where}; correct it."
        )
    return OwnVideo(name, path, prompt, row.get("phys_law", "").strip())


def _view(item: OwnVideo, flow_seconds: float) -> tuple[View | None, str]:
    """What verifiers see, None where there is no frame, and what is wrong with the file."""
    frames, fault = examine_video(item.path)
    if not len(frames):
        return None, fault
    return View(item.prompt, item.phys_law, item.prompt, frames, frame_rate(item.path), flow_seconds), fault


def score_videos(
    items: Sequence[OwnVideo], judges: Sequence[Judge], models: ModelPool, flow_seconds: float, batch_size: int
) -> Iterator[list[tuple[OwnVideo, list[Judgement], str]]]:
    """Scores videos, batch by batch.

    Args:
        items: The videos.
        judges: The verifiers.
        models: Lends their models.
        flow_seconds: Time between two frames of the optical flow.
        batch_size: Videos that are looked at together, and in memory.

    Yields:
        For each video of a batch its judgements, in the order of the verifiers, and what is wrong with the file; a video that
        cannot be read has judgements without a score.
    """
    for begin in range(0, len(items), batch_size):
        part = items[begin : begin + batch_size]
        views = [_view(item, flow_seconds) for item in part]
        judged = _judge([view for view, _ in views if view is not None], judges, models)
        yield [
            (item, next(judged) if view is not None else [Judgement(None) for _ in judges], fault)
            for item, (view, fault) in zip(part, views, strict=True)
        ]


def _judge(views: Sequence[View], judges: Sequence[Judge], models: ModelPool) -> Iterator[list[Judgement]]:
    """The judgements of each video; verifiers take a batch for videos of one rate."""
    found: dict[int, list[Judgement]] = {}
    for rate in dict.fromkeys(view.fps for view in views):
        same = [index for index, view in enumerate(views) if view.fps == rate]
        columns = [judge.verifier.judge([views[index] for index in same], models) for judge in judges]
        found |= {index: list(row) for index, *row in zip(same, *columns, strict=True)}
    return iter([found[index] for index in range(len(views))])
