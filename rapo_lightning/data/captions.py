"""Reads files of training captions."""

from __future__ import annotations

from ..errors import UserError
from .resources import find
from .tables import read_text


def read_captions(source: str, limit: int = 0) -> list[str]:
    """Captions of a txt file, one a line; repeated ones stay, since a graph counts them.

    Args:
        source: Path of the file.
        limit: Number of captions to take from the start, 0 for all.

    Raises:
        UserError: If it is missing, empty or not UTF-8.
    """
    path = find(source) if source else None
    if path is None or not path.is_file():
        raise UserError(f"Captions are read from a txt file, one a line. Got {source!r}, which is no file.")
    captions = [line.strip() for line in read_text(path, "The captions file").splitlines() if line.strip()]
    if not captions:
        raise UserError(f"The captions file has no caption. Got {path}; write one a line.")
    return captions[:limit] if limit else captions
