"""Trajectories for other programs: a CSV of all columns, and prompt files for benchmarks that find videos by their names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .csv_log import csv_text
from .ids import prompt_id
from .store import Row

_LONGEST_NAME = 255
"""Bytes of a file's name that common file systems take."""
_ENDING = 20
"""Bytes kept for the number of the video and the ending."""


def trajectory_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with all their columns; lists (`flow`, `calls`) are JSON, and what is missing is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return csv_text([columns, *([_cell(row.get(name)) for name in columns] for row in rows)])


def _cell(value: object) -> object:
    """A value as text; numbers have the seven digits of the 32 bits in which rows keep them."""
    if isinstance(value, list):
        return json.dumps(_short(value), ensure_ascii=False)
    return "" if value is None else _short(value)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class RefinedPrompt:
    """What a prompt became.

    Attributes:
        source: The user's prompt.
        phys_law: Its law, may be empty.
        text: What its video is to be made from.
    """

    source: str
    phys_law: str
    text: str


def video_stems(prompts: Sequence[RefinedPrompt]) -> list[str]:
    """Names of the prompts' videos, without number and ending: the *source* prompts, as VBench looks for them.

    A prompt that cannot be a file's name as it is (separators, control characters, too long), and one whose name another
    prompt before it has, in whatever case, is told apart by digits of its id.
    """
    taken: set[str] = set()
    stems = []
    for prompt in prompts:
        stem = plain = re.sub(r"[/\\\x00-\x1f\x7f]", "_", prompt.source)
        plain = plain.encode()[: _LONGEST_NAME - _ENDING - 17].decode(errors="ignore")
        fits = stem == prompt.source and len(stem.encode()) <= _LONGEST_NAME - _ENDING
        if not fits or stem.casefold() in taken:
            identity = prompt_id(prompt.source, prompt.phys_law)
            stem = next(name for digits in (8, 16) if (name := f"{plain}_{identity[:digits]}").casefold() not in taken)
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def benchmark_files(prompts: Sequence[RefinedPrompt], samples: int) -> dict[str, str]:
    """The files of a benchmark's prompts, their contents by name.

    Args:
        prompts: The prompts, each text and law once.
        samples: Videos of each prompt.

    Returns:
        `prompts.csv`, a row for each video: its name, the user's prompt, the law, and what it is to be made from;
        `prompt_file.json`, the user's prompt by the video's name, what VBench's option `--prompt_file` reads; `source.txt` and
        `refined.txt`, the two texts of each prompt, line by line.
    """
    named = list(zip(video_stems(prompts), prompts, strict=True))
    videos = [(f"{stem}-{number}.mp4", prompt) for stem, prompt in named for number in range(samples)]
    rows = [[name, prompt.source, prompt.phys_law, prompt.text] for name, prompt in videos]
    by_name = {name: prompt.source for name, prompt in videos}
    return {
        "prompts.csv": csv_text([["video", "prompt", "phys_law", "refined"], *rows]),
        "prompt_file.json": json.dumps(by_name, ensure_ascii=False, indent=1) + "\n",
        "source.txt": _lines(prompt.source for prompt in prompts),
        "refined.txt": _lines(prompt.text for prompt in prompts),
    }


def _lines(texts: Iterable[str]) -> str:
    return "".join(" ".join(text.split()) + "\n" for text in texts)
