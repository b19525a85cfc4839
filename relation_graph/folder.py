"""The folder of a graph: one writer at a time, replaced as a whole, and put right after a writer was killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .graph import GraphError

MANIFEST = "graph.json"
_SWAP_SECONDS = 10.0
"""How long a reader waits for a writer that has moved the old graph away and is about to put the new one there."""


def incoming(folder: Path) -> Path:
    """Where the next state of a graph is written, beside it."""
    return folder.with_name(f".{folder.name}.incoming")


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


@contextmanager
def locked(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Keeps other writers away from a graph, and clears what a killed one left.

    The system lets go of the lock when its holder dies, so whatever lies beside the graph while the lock is ours is a dead
    writer's or our own.

    Args:
        folder: The graph's folder, resolved; it need not be there.
        wait: Seconds to wait for another writer.

    Raises:
        GraphError: If another writer has it.
    """
    lock = FileLock(str(folder.with_name(f".{folder.name}.lock")))
    while True:
        try:
            lock.acquire(timeout=wait)
        except Timeout as error:
            raise GraphError(
                f"A graph is written by one command at a time. Got {folder}, which another one is writing; wait for it."
            ) from error
        # A holder removes the file as it leaves; a lock on a file that is gone keeps nobody away.
        if os.path.exists(lock.lock_file):
            break
        lock.release()
    try:
        _put_right(folder)
        yield
    finally:
        _put_right(folder)
        with suppress(FileNotFoundError):
            os.unlink(lock.lock_file)
        lock.release()


def _put_right(folder: Path) -> None:
    """Takes the old graph back where the new one did not come, and removes what else lies beside the graph."""
    if not folder.exists() and (_previous(folder) / MANIFEST).is_file():
        os.replace(_previous(folder), folder)
    for leftover in (_previous(folder), incoming(folder)):
        shutil.rmtree(leftover, ignore_errors=True)


def take_in(folder: Path) -> None:
    """Puts what was written to `incoming` in the place of the graph; the lock must be held."""
    if folder.exists():
        # Maps of the old graph that are still open keep their files.
        os.replace(folder, _previous(folder))
        os.replace(incoming(folder), folder)
        # Under the name of what is to be removed, so that nobody takes it back if the graph is deleted later.
        os.replace(_previous(folder), incoming(folder))
    else:
        os.replace(incoming(folder), folder)


def recover(folder: Path) -> None:
    """Takes a graph back that a writer, killed halfway, had moved away to make room for the new one.

    Args:
        folder: The graph's folder, resolved.

    Raises:
        GraphError: If the folder around it is read-only.
    """
    if folder.exists() or not _previous(folder).exists():
        return
    try:
        with locked(folder, _SWAP_SECONDS):
            pass
    except OSError as error:
        raise GraphError(
            f"The graph {folder} was moved away by a writer that was killed. Got {error.strerror} on taking it back; "
            f"rename {_previous(folder)} to {folder.name}."
        ) from error
