"""Which CSVs a graph was built from, so that a command that is run again adds nothing twice."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .graph import GraphError, RelationGraph, Source


def source_of(path: Path) -> Source:
    """The name of a CSV and the hash of its contents.

    Raises:
        GraphError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return Source(path.name, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise GraphError(f"A graph is built from CSV files. Got {path}: {error.strerror}.") from error


def still_to_add(paths: Sequence[Path], graph: RelationGraph, times: int = 1) -> list[Path]:
    """What is to be added to a graph for it to hold each CSV a number of times.

    Contents count, not names. Told what the graph is to hold, and not what to do, a command that was killed after its work
    is done changes nothing when it is run again.

    Args:
        paths: The CSVs.
        graph: The graph.
        times: How often it is to hold each of them.

    Returns:
        The CSVs in their order, each as often as it is missing.

    Raises:
        GraphError: If a CSV cannot be read, or `times` is below 1.
    """
    if times < 1:
        raise GraphError(f"A graph holds a CSV at least once. Got {times} for `times`; give 1 or more.")
    held = Counter(source.sha256 for source in graph.sources)
    left: list[Path] = []
    for path in paths:
        digest = source_of(path).sha256
        missing = max(0, times - held[digest])
        left += [path] * missing
        held[digest] += missing
    return left
