"""Builds a relation graph from CSV rows, or goes on building one that is there."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow
from numpy.typing import NDArray
from tqdm import tqdm

from .graph import MODIFIER_KINDS, Edges, Encoder, GraphError, Kind, Nodes, RelationGraph, Source, phrase_key
from .rows import GraphRow, RowReport, read_rows
from .sources import source_of

ENCODE_AT_ONCE = 8192
"""Phrases handed to the encoder together; it sorts them by length and pads little."""
_SHIFT = 32


class _NodeTable:
    """Phrases of one kind with the captions that name them, while a graph is being built."""

    def __init__(self, nodes: Nodes | None) -> None:
        self.phrases: list[str] = nodes.texts() if nodes else []
        self.index: dict[str, int] = {}
        for number, phrase in enumerate(self.phrases):
            self.index.setdefault(phrase_key(phrase), number)
        # Pairs (node, caption) as two flat columns: a dictionary of lists takes ten times the memory.
        self.owners, self.captions = array("q"), array("i")
        if nodes:
            owners = np.repeat(np.arange(len(nodes), dtype=np.int64), np.diff(nodes.caption_offsets))
            self.owners.frombytes(owners.tobytes())
            self.captions.frombytes(np.ascontiguousarray(nodes.captions, dtype=np.int32).tobytes())
        self.known = len(self.phrases)

    def add(self, phrases: Iterable[str], caption: int) -> list[int]:
        """Numbers of phrases, each once; new ones get the next number."""
        numbers: dict[int, None] = {}
        for phrase in phrases:
            key = phrase_key(phrase)
            number = self.index.get(key)
            if number is None:
                number = self.index[key] = len(self.phrases)
                self.phrases.append(phrase)
            numbers[number] = None
        for number in numbers:
            self.owners.append(number)
            self.captions.append(caption)
        return list(numbers)

    def finish(self, vectors: NDArray[np.float32]) -> Nodes:
        """The finished nodes."""
        owners = np.frombuffer(self.owners, dtype=np.int64) if self.owners else np.zeros(0, np.int64)
        captions = np.frombuffer(self.captions, dtype=np.int32) if self.captions else np.zeros(0, np.int32)
        order = np.argsort(owners, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(self.phrases)))]).astype(np.int64)
        norms = np.linalg.norm(vectors, axis=1).astype(np.float32)
        return Nodes(pyarrow.array(self.phrases, pyarrow.large_string()), vectors, norms, offsets, captions[order])


class GraphBuilder:
    """Collects rows, then embeds the new phrases in large batches.

    Building from A and adding B gives the same graph as building from A and B: nodes stand in order of first
    appearance, links in order of their ends, counts are sums.
    """

    def __init__(self, graph: RelationGraph | None = None) -> None:
        """Starts empty, or from a graph to add to."""
        self.graph = graph
        self.captions = graph.captions if graph else 0
        self.sources: list[Source] = list(graph.sources) if graph else []
        kinds: tuple[Kind, ...] = ("place", *MODIFIER_KINDS)
        self._tables = {kind: _NodeTable(graph.nodes[kind] if graph else None) for kind in kinds}
        self._links: dict[Kind, array[int]] = {kind: array("q") for kind in MODIFIER_KINDS}

    def add(self, row: GraphRow) -> None:
        """Adds one caption's extraction: each of its places is linked to each of its modifiers."""
        places = self._tables["place"].add(row.places, self.captions)
        for kind, phrases in (("verb_object", row.verb_objects), ("scenario", row.scenarios)):
            modifiers = self._tables[kind].add(phrases, self.captions)  # type: ignore[index]
            self._links[kind].extend(place << _SHIFT | modifier for place in places for modifier in modifiers)  # type: ignore[index]
        self.captions += 1

    def finish(self, encoder: Encoder, progress: bool = False) -> RelationGraph:
        """Embeds the phrases that are new and returns the graph.

        Args:
            encoder: Gives the vectors.
            progress: Whether to show a bar.

        Raises:
            GraphError: If no row had a place, or the encoder is not that of the graph added to.
        """
        if not self._tables["place"].phrases:
            raise GraphError("A graph needs at least one row with a place. Got none; check the column `place`.")
        nodes = {kind: table.finish(self._vectors(kind, encoder, progress)) for kind, table in self._tables.items()}
        edges = {kind: self._edges(kind, len(nodes["place"])) for kind in MODIFIER_KINDS}
        name = self.graph.embedder if self.graph else encoder.name
        origin = dict(self.graph.origin) if self.graph else {}
        return RelationGraph(nodes, edges, name, self.captions, origin, self.sources)

    def _vectors(self, kind: Kind, encoder: Encoder, progress: bool) -> NDArray[np.float32]:
        table = self._tables[kind]
        new = table.phrases[table.known :]
        if self.graph is not None:
            self.graph.check_encoder(encoder, int(encoder.encode(["a place"]).shape[1]))
        old = [np.asarray(self.graph.nodes[kind].vectors)] if self.graph is not None else []
        bar = tqdm(total=len(new), desc=f"embed {kind}s", unit="phrase", disable=not progress)
        parts = list(old)
        for begin in range(0, len(new), ENCODE_AT_ONCE):
            phrases = new[begin : begin + ENCODE_AT_ONCE]
            parts.append(np.asarray(encoder.encode(phrases), dtype=np.float32))
            bar.update(len(phrases))
        bar.close()
        if not parts:
            return np.zeros((0, int(encoder.encode(["a place"]).shape[1])), np.float32)
        return np.concatenate(parts)

    def _edges(self, kind: Kind, places: int) -> Edges:
        links = np.frombuffer(self._links[kind], dtype=np.int64) if self._links[kind] else np.zeros(0, np.int64)
        codes, counts = np.unique(links, return_counts=True)
        if self.graph is not None:
            old = self.graph.edges[kind]
            sources = np.repeat(np.arange(len(self.graph.places), dtype=np.int64), np.diff(old.offsets))
            codes, inverse = np.unique(
                np.concatenate([sources << _SHIFT | old.targets.astype(np.int64), codes]), return_inverse=True
            )
            counts = np.bincount(inverse, np.concatenate([old.counts, counts]), minlength=len(codes))
        return edges_from_codes(codes, counts, places)


def edges_from_codes(codes: NDArray[np.int64], counts: NDArray[np.generic], places: int) -> Edges:
    """Links from ascending codes `place << 32 | modifier` with their counts."""
    sources = codes >> _SHIFT
    offsets = np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=places))]).astype(np.int64)
    return Edges(offsets, (codes & ((1 << _SHIFT) - 1)).astype(np.int32), counts.astype(np.int32))


def build_graph(
    sources: Sequence[Path], encoder: Encoder, graph: RelationGraph | None = None, progress: bool = False
) -> tuple[RelationGraph, dict[str, RowReport]]:
    """Builds a graph from CSVs, or adds them to `graph`.

    Args:
        sources: CSVs with the columns of `rows.COLUMNS`.
        encoder: Gives the vectors.
        graph: A graph to add to; it is not changed.
        progress: Whether to show bars.

    Returns:
        The graph, and for each source what could not be read.

    Raises:
        GraphError: If a CSV lacks a column, or no row has a place.
    """
    builder, reports = GraphBuilder(graph), {}
    for source in sources:
        builder.sources.append(source_of(source))
        report = reports[str(source)] = RowReport()
        for row in tqdm(read_rows(source, report), desc=source.name, unit="row", disable=not progress):
            builder.add(row)
    return builder.finish(encoder, progress), reports
