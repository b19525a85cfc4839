"""The log of the authors' closed loop (`phyaware_wan2.1.py`): a CSV without a header, a line per prompt and iteration.

A line has `COLUMNS`. The base name is the number of the prompt's row in the script's input, from 1, and iterations count from 1:
the first video is made from the input's caption, every later one from the refined prompt of the iteration before it.

The script reads base names as numbers when it is started again and compares them with text, so it finds nothing of what it has
logged: it judges the videos that are there once more and appends their lines with other refined prompts, while those videos were
made from the refined prompts of before. So of repeated lines of an iteration that one counts whose refined prompt the next
iteration's video was made from: the last one before the next iteration's first line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .prompts import Prompt
from .tables import read_records, read_text

COLUMNS = ("base name", "iteration", "video", "mismatch", "refined prompt")
_WHAT = "The log"


@dataclass(frozen=True)
class _Line:
    """A line of the log; `place` is its place among the lines."""

    place: int
    base: int
    iteration: int
    video: str
    mismatch: str
    refined: str


@dataclass(frozen=True)
class LoggedRound:
    """A round as the log tells it.

    Attributes:
        prompt: The user's prompt.
        round: From 0.
        text: What its video was made from.
        video: Name of the video file, without folders.
        physics: What the language model said of the motion.
        critique: What the vision-language model said of the video.
        next_text: The refined prompt that came of it.
    """

    prompt: Prompt
    round: int
    text: str
    video: str
    physics: str
    critique: str
    next_text: str


def read_log(path: Path, prompts: Sequence[Prompt]) -> tuple[list[LoggedRound], list[str]]:
    """Reads a log.

    Args:
        path: The log.
        prompts: The prompts of the script's input, repeated ones too, in its order.

    Returns:
        The rounds, by prompt in the input's order, and a sentence for each thing that was left out.

    Raises:
        UserError: If the file is missing, empty, not UTF-8, or a line of it is none of a log.
    """
    if not path.is_file():
        raise UserError(f"`import` reads the log of the authors' script. Got {str(path)!r}, which is no file.")
    lines, remarks = _read_lines(path, len(prompts))
    rounds: list[LoggedRound] = []
    seen: dict[str, int] = {}
    for base in sorted({line.base for line in lines}):
        prompt = prompts[base - 1]
        if seen.setdefault(prompt.id, base) != base:
            remarks.append(
                f"Prompt {base} is left out: it is that of row {seen[prompt.id]}, with the same law. Got it twice."
            )
            continue
        found, told = _trajectory(prompt, [line for line in lines if line.base == base])
        rounds += found
        remarks += told
    return rounds, remarks


def _read_lines(path: Path, count: int) -> tuple[list[_Line], list[str]]:
    """The lines, and what is to be said of the last one where a kill has cut it off."""
    records = list(read_records(path, _WHAT))
    if not records:
        raise UserError(f"{_WHAT} needs a line for each iteration ({', '.join(COLUMNS)}). Got the empty file {path}.")
    remarks = []
    if len(records) > 1 and len(records[-1][1]) < len(COLUMNS) and not read_text(path, _WHAT).endswith("\n"):
        remarks.append(f"The last line of {path} is left out: it is cut off. Got {len(records[-1][1])} columns.")
        records.pop()
    return [_line(place, number, record, path, count) for place, (number, record) in enumerate(records)], remarks


def _line(place: int, number: int, record: list[str], path: Path, count: int) -> _Line:
    where = f"line {number} of {path}"
    if len(record) != len(COLUMNS):
        raise UserError(
            f"Each line of a log has {len(COLUMNS)} columns ({', '.join(COLUMNS)}), without a header. Got {len(record)} in "
            f"{where}; correct it."
        )
    base, iteration = (int(text) if re.fullmatch(r"\s*[0-9]{1,9}\s*", text) else 0 for text in record[:2])
    if base < 1 or iteration < 1:
        raise UserError(
            "Base name and iteration of a log are numbers from 1, and there is no header. Got "
            f"{record[0][:40]!r} and {record[1][:40]!r} in {where}; correct it."
        )
    if base > count:
        raise UserError(
            f"The base name of a log is the number of a row of `--prompts`. Got {base} in {where}, and {count} prompts; name "
            "the file that the log was made with."
        )
    # Videos of a log from another machine are found by their name.
    return _Line(place, base, iteration, re.split(r"[\\/]", record[2].strip())[-1], record[3], record[4].strip())


def _trajectory(prompt: Prompt, lines: Sequence[_Line]) -> tuple[list[LoggedRound], list[str]]:
    """The rounds of one prompt up to the first that nothing certain is known of, and what was left out."""
    base, text = lines[0].base, prompt.text
    by_iteration: dict[int, list[_Line]] = {}
    for line in lines:
        by_iteration.setdefault(line.iteration, []).append(line)
    rounds: list[LoggedRound] = []
    while text and len(rounds) + 1 in by_iteration:
        line = _counting(by_iteration[len(rounds) + 1], by_iteration.get(len(rounds) + 2, []))
        rounds.append(LoggedRound(prompt, len(rounds), text, line.video, *_remarks(line.mismatch), line.refined))
        text = line.refined
    remarks, stop = [], len(rounds) + 1
    left = sorted(number for number in by_iteration if number >= stop)
    if left:
        reason = f"an empty refined prompt of iteration {stop - 1}" if stop in by_iteration else f"no iteration {stop}"
        remarks.append(
            f"Iterations {', '.join(map(str, left))} of prompt {base} are left out: what their videos were made from is not "
            f"known. Got {reason}."
        )
    repeated = sum(len(found) - 1 for found in by_iteration.values())
    if repeated:
        remarks.append(
            f"Of repeated lines of prompt {base} those count that later videos were made from. Got {repeated} more than "
            "iterations."
        )
    return rounds, remarks


def _counting(lines: Sequence[_Line], following: Sequence[_Line]) -> _Line:
    """The line of an iteration that counts, see the module."""
    before = [line for line in lines if following and line.place < following[0].place]
    return (before or lines)[-1]


def _remarks(mismatch: str) -> tuple[str, str]:
    """What the two models said; a text of another form is taken for the vision-language model's."""
    found = re.fullmatch(r"\s*\[Physics\](.*?)\|\|\s*\[VLM\](.*)", mismatch, re.DOTALL)
    physics, seen = found.groups() if found else ("", mismatch)
    return " ".join(physics.split()), " ".join(seen.split())
