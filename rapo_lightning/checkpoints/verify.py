"""Checksums of checkpoint folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..errors import RunError
from .manifest import MARKER, Entry, ready_folder


def file_sha256(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    """sha256 of every file of a folder but the marker, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def write_marker(folder: Path) -> None:
    """Records the checksums of a folder that has just been completed."""
    (folder / MARKER).write_text(json.dumps(checksums(folder), indent=1) + "\n", encoding="utf-8")


def read_marker(folder: Path) -> dict[str, str]:
    """The recorded checksums of a folder, by relative path.

    Raises:
        RunError: If the record cannot be read.
    """
    path = folder / MARKER
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged. Got {error}; delete the folder and fetch again.") from error
    if not isinstance(recorded, dict) or not all(isinstance(digest, str) for digest in recorded.values()):
        raise RunError(f"{path} is damaged. Got no mapping of files to checksums; delete the folder and fetch again.")
    return recorded


def verify(entry: Entry) -> list[str]:
    """Compares a checkpoint with its recorded checksums.

    Returns:
        One sentence per fault; empty if it is whole.
    """
    folder = ready_folder(entry)
    if folder is None:
        return [f"{entry.name} is not here; run `rapo-lightning ckpt fetch {entry.name}`."]
    try:
        recorded = read_marker(folder)
    except RunError as error:
        return [f"{entry.name}: {error}"]
    faults = []
    for name, digest in recorded.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{entry.name}: {name} is missing from {folder}; delete the folder and fetch again.")
        elif file_sha256(path) != digest:
            faults.append(f"{entry.name}: {name} in {folder} has changed; delete the folder and fetch again.")
    return faults
