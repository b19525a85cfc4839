"""Reads prompt files: txt, csv, parquet, or a dataset's folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from .ids import prompt_id
from .resources import find
from .tables import read_lines, stream_table

MAX_CHARACTERS = 4000
"""Longest prompt; text encoders of video models read 226 to 512 tokens, so a longer one would be cut unseen."""

_COLUMNS = ("prompt", "phys_law", "reference", "group")
_AUTHORS_NAME = "captions"
"""What the CSV of the authors' script calls the column `prompt`."""
_WHAT = "The prompt file"
_ROWS = 1000
"""Rows of a table that are objects of Python at a time."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as the user gave it.

    Attributes:
        text: The prompt.
        phys_law: The physical law it should obey, may be empty.
        reference: A training-style caption of the same scene, may be empty; the ceiling of an evaluation.
        group: Group of prompts that an evaluation reports by itself, may be empty; no part of the prompt's identity.
    """

    text: str
    phys_law: str = ""
    reference: str = ""
    group: str = ""

    @property
    def id(self) -> str:
        """Hash of prompt and law."""
        return prompt_id(self.text, self.phys_law)


@dataclass
class RoundBatch:
    """A step of a stage: some prompts, and which of their rounds.

    Attributes:
        round: From 0.
        prompts: The prompts.
    """

    round: int
    prompts: list[Prompt]


@dataclass(frozen=True)
class Share:
    """One of several equal shares of a list of prompts, dealt out in the order of their ids, which are hashes.

    So neighbours in a file, which are alike, come into different shares, and shares differ by one prompt at most. Who
    starts the shares need not agree on anything but the list.

    Attributes:
        index: Which, from 0.
        count: How many there are; there may be more than prompts.
    """

    index: int = 0
    count: int = 1

    def of(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts of this share, in the order in which they came."""
        by_hash = sorted(range(len(prompts)), key=lambda place: prompts[place].id)
        return [prompts[place] for place in sorted(by_hash[self.index :: self.count])]

    @property
    def name(self) -> str:
        """Part of a file's name; empty if the share is all there is."""
        return f"{self.index + 1}-of-{self.count}" if self.count > 1 else ""


def read_share(text: str) -> Share:
    """The share that `i/n` means: the i-th of n, from 1; nothing means all.

    Raises:
        UserError: If it means none.
    """
    if not text:
        return Share()
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    index, count = (int(number) for number in found.groups()) if found else (0, 0)
    if not 1 <= index <= count:
        raise UserError(
            f"`--shard` must be i/n with i from 1 to n, such as 1/4 to 4/4. Got {text!r}; name one of the n shares."
        )
    return Share(index - 1, count)


PromptTexts = Callable[[Sequence[Prompt]], list[str]]
"""What a video of each prompt is made from: one text per prompt."""


def fixed_texts(texts: Mapping[str, str]) -> PromptTexts:
    """Texts that are known already, by prompt id."""
    return lambda prompts: [texts[prompt.id] for prompt in prompts]


def _table(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    if (path / "state.json").is_file():
        from datasets import load_from_disk

        # Flattened, since a dataset that was filtered or shuffled keeps its rows elsewhere than its order.
        return load_from_disk(str(path)).flatten_indices().data.table
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not parts:
        splits = sorted(item.parent.name for item in path.glob("*/state.json"))
        hint = f"name one of its splits ({', '.join(splits)})" if splits else "name a folder with parquet files"
        raise UserError(
            f"A folder of prompts is a dataset of one split, saved to disk or as parquet. Got {path}; {hint}."
        )
    return pyarrow.concat_tables([pyarrow.parquet.read_table(part) for part in parts], promote_options="default")


def _table_rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a parquet file, of a folder of such files, or of a dataset written by `save_to_disk`; the table is held."""
    import pyarrow

    try:
        table = _table(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"Prompts must be readable. Got {path}, which is not: {reason}; write it anew.") from error
    if "prompt" not in table.column_names:
        raise UserError(
            f"A dataset of prompts needs a column `prompt`. Got the columns {table.column_names} in {path}; rename one."
        )
    table = table.select([name for name in _COLUMNS if name in table.column_names])
    for batch in table.to_batches(max_chunksize=_ROWS):
        for row in batch.to_pylist():
            yield {key: "" if value is None else str(value) for key, value in row.items()}


def _read_rows(path: Path) -> Iterator[dict[str, str]]:
    if path.is_dir() or path.suffix == ".parquet":
        return _table_rows(path)
    if path.suffix != ".csv":
        return ({"prompt": line} for line in read_lines(path, _WHAT))
    columns, rows = stream_table(path, _WHAT)
    if "prompt" in columns:
        return rows
    if _AUTHORS_NAME not in columns:
        raise UserError(
            f"A prompt CSV needs a column `prompt`, or `{_AUTHORS_NAME}` as the authors' have. Got the columns {columns} in "
            f"{path}; rename one."
        )
    return ({**row, "prompt": row[_AUTHORS_NAME]} for row in rows)


def read_prompts(source: str, limit: int = 0, field: str = "prompts") -> list[Prompt]:
    """Reads prompts, in file order, each (prompt, law) once.

    Args:
        source: Path of a txt file (one prompt a line), a csv or parquet file, a folder of parquet files, or a dataset
            written by `save_to_disk`.
        limit: Number of prompts to take from the start, 0 for all.
        field: Name of the option, for messages.

    Raises:
        UserError: If the file is missing, empty, not UTF-8, lacks the column, or has an empty or over-long prompt.
    """
    first: dict[str, Prompt] = {}
    for prompt in stream_prompts(source, field):
        first.setdefault(prompt.id, prompt)
    chosen = list(first.values())
    return chosen[:limit] if limit else chosen


def read_all_prompts(source: str, field: str = "prompts") -> list[Prompt]:
    """As `read_prompts`, with a prompt for each entry: repeated ones stay, so that a prompt's place is that in the file."""
    return list(stream_prompts(source, field))


def stream_prompts(source: str, field: str = "prompts") -> Iterator[Prompt]:
    """As `read_all_prompts`, one at a time: a txt or csv file is never held as a whole. Errors come when they are met."""
    path = find(source) if source else None
    if path is None:
        raise UserError(
            f"`{field}` must name a txt, csv or parquet file, or a dataset folder. Got {source!r}, which is not there."
        )
    first_line, empty = (2 if path.suffix == ".csv" else 1), True
    for number, row in enumerate(_read_rows(path), start=first_line):
        text = checked_text(row.get("prompt", ""), f"entry {number} of {path}")
        yield Prompt(text, *(row.get(name, "").strip() for name in _COLUMNS[1:]))
        empty = False
    if empty:
        raise UserError(f"The prompt file has no prompt. Got {path}; write one prompt a line.")


def checked_text(text: str, place: str) -> str:
    """A prompt's text without blanks around it.

    Args:
        text: The text.
        place: Where it stands, for messages.

    Raises:
        UserError: If it is empty or over-long.
    """
    text = text.strip()
    if not text:
        raise UserError(f"Every prompt needs text. Got an empty one in {place}; remove the line.")
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"A prompt may have {MAX_CHARACTERS} characters. Got {len(text)} in {place}; shorten it.")
    return text
