"""The relation graph: places as hubs, linked to the modifiers that captions use with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pyarrow
from numpy.typing import NDArray

if TYPE_CHECKING:
    import networkx

Kind = Literal["place", "verb_object", "scenario"]
MODIFIER_KINDS: tuple[Kind, Kind] = ("verb_object", "scenario")


class GraphError(ValueError):
    """A graph, or what one is to be built from, is not usable; the message is one sentence for the user."""


class Encoder(Protocol):
    """What turns phrases into vectors."""

    name: str
    """Name of the embedding model; a graph remembers it."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors, `(texts, dimensions)`."""


def phrase_key(phrase: str) -> str:
    """Identity of a phrase: without regard to case and to runs of white space."""
    return " ".join(phrase.split()).casefold()


@dataclass
class Nodes:
    """The nodes of one kind, in order of first appearance.

    Attributes:
        phrases: Arrow strings, `(nodes,)`; the spelling that came first.
        vectors: Embeddings as the encoder gave them, `(nodes, dimensions)`, float32.
        norms: Their Euclidean norms, `(nodes,)`.
        caption_offsets: `(nodes + 1,)`; the captions of node `i` are
            `captions[caption_offsets[i]:caption_offsets[i + 1]]`.
        captions: Numbers of the captions that name the node, in order.
    """

    phrases: pyarrow.Array
    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    caption_offsets: NDArray[np.int64]
    captions: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.phrases)

    def phrase(self, index: int) -> str:
        """Text of a node."""
        return str(self.phrases[int(index)].as_py())

    def captions_of(self, index: int) -> NDArray[np.int32]:
        """Numbers of the captions that name a node."""
        return self.captions[self.caption_offsets[index] : self.caption_offsets[index + 1]]

    def texts(self) -> list[str]:
        """All phrases; reads the whole table."""
        return list(self.phrases.to_pylist())


@dataclass
class Edges:
    """Links from places to modifiers of one kind, grouped by place, modifiers ascending.

    Attributes:
        offsets: `(places + 1,)`; the links of place `i` are `targets[offsets[i]:offsets[i + 1]]`.
        targets: Modifier numbers, `(links,)`.
        counts: Captions that name both ends, `(links,)`: the weight of the link.
    """

    offsets: NDArray[np.int64]
    targets: NDArray[np.int32]
    counts: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.targets)

    def of(self, place: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Modifiers of a place and their counts."""
        begin, end = self.offsets[place], self.offsets[place + 1]
        return self.targets[begin:end], self.counts[begin:end]


@dataclass(frozen=True)
class Source:
    """A CSV that a graph was built from.

    Attributes:
        name: Its file name, for the reader.
        sha256: Hash of its contents, by which it is known again.
    """

    name: str
    sha256: str


@dataclass
class RelationGraph:
    """Places, modifiers and the links between them.

    Attributes:
        nodes: `Nodes` by kind: `place`, `verb_object`, `scenario`.
        edges: `Edges` by kind of modifier.
        embedder: Name of the model that made the vectors.
        captions: Number of captions read.
        origin: Free facts on where the graph comes from; kept and shown, never used.
        sources: The CSVs it was built from, in order; empty where they are not known.
    """

    nodes: dict[Kind, Nodes]
    edges: dict[Kind, Edges]
    embedder: str
    captions: int
    origin: dict[str, Any] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""
        return int(self.nodes["place"].vectors.shape[1])

    @property
    def places(self) -> Nodes:
        """The hubs."""
        return self.nodes["place"]

    def find_place(self, phrase: str) -> int:
        """Number of a place.

        Raises:
            GraphError: If there is none of that name.
        """
        wanted = phrase_key(phrase)
        for index, text in enumerate(self.places.texts()):
            if phrase_key(text) == wanted:
                return index
        raise GraphError(f"The graph has no such place. Got {phrase!r}; `graph info DIR` lists the largest ones.")

    def neighbours(self, place: int) -> Iterator[tuple[Kind, str, int]]:
        """Kind, phrase and count of each modifier of a place, most frequent first."""
        found = []
        for kind in MODIFIER_KINDS:
            targets, counts = self.edges[kind].of(place)
            found += [(kind, int(t), int(c)) for t, c in zip(targets, counts, strict=True)]
        for kind, target, count in sorted(found, key=lambda item: (-item[2], item[0], item[1])):
            yield kind, self.nodes[kind].phrase(target), count

    def hubs(self, count: int) -> list[tuple[str, int, int]]:
        """The places with the most links: phrase, number of links, number of captions."""
        links = sum(np.diff(self.edges[kind].offsets) for kind in MODIFIER_KINDS)
        order = np.argsort(-np.asarray(links), kind="stable")[:count]
        captions = np.diff(self.places.caption_offsets)
        return [(self.places.phrase(i), int(np.asarray(links)[i]), int(captions[i])) for i in order]

    def check_encoder(self, encoder: Encoder, dimensions: int) -> None:
        """Checks that an encoder's vectors can be compared with the graph's.

        Raises:
            GraphError: If its name or its dimensions differ.
        """
        names = [name.rsplit("/", 1)[-1].casefold() for name in (encoder.name, self.embedder)]
        if names[0] != names[1] or dimensions != self.dimensions:
            raise GraphError(
                f"The graph was embedded by {self.embedder!r} with {self.dimensions} dimensions. Got the embedder "
                f"{encoder.name!r} with {dimensions}; use that embedder or build the graph anew."
            )

    def to_networkx(self) -> networkx.Graph:
        """The graph as a networkx graph.

        Nodes are `(kind, phrase)` with the attribute `captions`; links carry `weight`, the co-occurrence count.
        """
        import networkx

        graph = networkx.Graph(embedder=self.embedder, captions=self.captions)
        texts = {kind: nodes.texts() for kind, nodes in self.nodes.items()}
        for kind, nodes in self.nodes.items():
            sizes = np.diff(nodes.caption_offsets).tolist()
            graph.add_nodes_from(((kind, text), {"captions": n}) for text, n in zip(texts[kind], sizes, strict=True))
        for kind, edges in self.edges.items():
            sources = np.repeat(np.arange(len(self.places)), np.diff(edges.offsets))
            graph.add_weighted_edges_from(
                (("place", texts["place"][s]), (kind, texts[kind][t]), int(c))
                for s, t, c in zip(sources.tolist(), edges.targets.tolist(), edges.counts.tolist(), strict=True)
            )
        return graph
