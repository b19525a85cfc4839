"""Reads prompt files: txt, csv or parquet."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError
from .ids import prompt_id
from .resources import find

MAX_CHARACTERS = 4000
"""Longest prompt; text encoders of video models read 226 to 512 tokens, so a longer one would be cut unseen."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as the user gave it.

    Attributes:
        text: The prompt.
        phys_law: The physical law it should obey, may be empty.
        reference: A training-style caption of the same scene, may be empty; the ceiling of an evaluation.
    """

    text: str
    phys_law: str = ""
    reference: str = ""

    @property
    def id(self) -> str:
        """Hash of prompt and law."""
        return prompt_id(self.text, self.phys_law)


def _decode(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"The prompt file must be UTF-8. Got a byte that is not at position {error.start} of {path}; convert it, "
            "for example with `iconv -t UTF-8`."
        ) from error


def _read_rows(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(path).to_pylist()
        return [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    text = _decode(path)
    if path.suffix != ".csv":
        return [{"prompt": line} for line in text.splitlines()]
    reader = csv.DictReader(io.StringIO(text))
    if "prompt" not in (reader.fieldnames or []):
        raise UserError(f"A prompt CSV needs a column `prompt`. Got the columns {reader.fieldnames} in {path}.")
    return [{key: value or "" for key, value in row.items() if key} for row in reader]


def read_prompts(source: str, limit: int = 0, field: str = "prompts") -> list[Prompt]:
    """Reads prompts, in file order, each (prompt, law) once.

    Args:
        source: Path of a txt file (one prompt a line), a csv or a parquet file.
        limit: Number of prompts to take from the start, 0 for all.
        field: Name of the option, for messages.

    Raises:
        UserError: If the file is missing, empty, not UTF-8, lacks the column, or has an empty or over-long prompt.
    """
    path = find(source) if source else None
    if path is None or not path.is_file():
        raise UserError(f"`{field}` must name a txt, csv or parquet file of prompts. Got {source!r}, which is no file.")
    prompts: dict[str, Prompt] = {}
    first_line = 2 if path.suffix == ".csv" else 1
    for number, row in enumerate(_read_rows(path), start=first_line):
        text = row.get("prompt", "").strip()
        if not text:
            raise UserError(f"Every prompt needs text. Got an empty one in entry {number} of {path}; remove the line.")
        if len(text) > MAX_CHARACTERS:
            raise UserError(
                f"A prompt may have {MAX_CHARACTERS} characters. Got {len(text)} in entry {number} of {path}; shorten it."
            )
        prompt = Prompt(text, row.get("phys_law", "").strip(), row.get("reference", "").strip())
        prompts.setdefault(prompt.id, prompt)
    if not prompts:
        raise UserError(f"The prompt file has no prompt. Got {path}; write one prompt a line.")
    chosen = list(prompts.values())
    return chosen[:limit] if limit else chosen
