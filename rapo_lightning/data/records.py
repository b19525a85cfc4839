"""Records of what a phase has made, appended at once and found again by what they were made from.

A record is one line of JSON with a `key`: the hash of everything that decides its contents. Each process appends to a
file of its own; a kill can spoil no more than a file's last line, which is dropped when the file is opened again.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ..errors import RunError
from .store import make_folder

Phase = Literal["generations", "judgements", "rewrites"]
PHASES: tuple[Phase, ...] = ("generations", "judgements", "rewrites")
Record = dict[str, Any]


class Records:
    """The records of a run folder, `records/<phase>.<process>.jsonl`; the latest of a key counts."""

    def __init__(self, run_folder: Path, process: int | str = 0) -> None:
        """Opens or creates the records.

        Args:
            run_folder: The run folder.
            process: Name of this process (its rank, say), which no other process that writes here has.

        Raises:
            RunError: If the folder cannot be created, or a file is damaged elsewhere than at its end.
        """
        self.folder, self.process = make_folder(run_folder / "records"), process
        self._found: dict[Phase, dict[str, Record]] = {phase: {} for phase in PHASES}
        self._read: dict[Path, int] = {}
        self._lock = threading.Lock()
        for phase in PHASES:
            _drop_half_line(self._file(phase))
        self.refresh()

    def _file(self, phase: Phase) -> Path:
        return self.folder / f"{phase}.{self.process}.jsonl"

    def refresh(self) -> None:
        """Reads what other processes have appended since."""
        for phase in PHASES:
            for path in sorted(self.folder.glob(f"{phase}.*.jsonl")):
                for record in self._new_lines(path):
                    self._found[phase][record["key"]] = record

    def _new_lines(self, path: Path) -> list[Record]:
        begin = self._read.get(path, 0)
        with path.open("rb") as file:
            file.seek(begin)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[path] = begin + len(whole)
        return [_parse(line, path) for line in whole.splitlines()]

    def get(self, phase: Phase, key: str) -> Record | None:
        """The record of a key, or None."""
        return self._found[phase].get(key)

    def append(self, phase: Phase, records: Sequence[Record]) -> None:
        """Adds records; they are on disk when this returns. Several threads may call it.

        Raises:
            RunError: If the disk is full or read-only; records written before are not touched.
        """
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
        path = self._file(phase)
        with self._lock:
            try:
                with path.open("ab") as file:
                    begin = file.tell()
                    _write_whole(file, text, begin)
            except OSError as error:
                raise RunError(
                    f"Records cannot be written to {path}: {error.strerror}. What was written before is safe; make room "
                    "or choose another `--out`, and run the same command again to go on."
                ) from error
            self._read[path] = begin + len(text)
            self._found[phase].update({record["key"]: record for record in records})


def _write_whole(file: Any, text: bytes, begin: int) -> None:
    """Writes and flushes, or leaves the file as it was."""
    try:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        os.truncate(file.fileno(), begin)
        raise


_FIELDS: dict[str, set[str]] = {
    "generations": {"key", "video", "bytes", "seconds"},
    "judgements": {"key", "seconds"},
    "rewrites": {"key", "physics", "next_prompt", "seconds"},
}
"""What a record of each phase has at least."""


def _parse(line: bytes, path: Path) -> Record:
    try:
        record: Record = json.loads(line)
        missing = _FIELDS[path.name.split(".")[0]] - set(record)
        if missing:
            raise KeyError(*sorted(missing))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(
            f"A line of {path} is no record. Got {line[:60]!r}; delete that line and run the command again: only what it "
            "recorded is made anew."
        ) from error
    return record


def _drop_half_line(path: Path) -> None:
    """Cuts off what a kill left at the end of a file."""
    if path.is_file():
        content = path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            os.truncate(path, end)
