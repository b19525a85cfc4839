"""Retrieval: the places nearest to a prompt, then the modifiers of these places that are nearest to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .graph import MODIFIER_KINDS, GraphError, Kind, Nodes, RelationGraph

Search = Callable[[NDArray[np.float32], Nodes, int], NDArray[np.int64]]
"""Candidates for the nearest nodes: (unit vectors `(prompts, d)`, nodes, count) to node numbers `(prompts, count)`."""

SPARE = 4
"""Candidates beyond those asked for; they are ranked again by exact scores, so that rounding in a matrix product, which
changes with the number of prompts, does not change what is found."""
DECIMALS = 4
"""Scores are compared to this many decimals: below that, encoders differ from batch to batch."""
_MANY = 64
"""Neighbours of a hub are narrowed down to this many by single-precision scores before the exact ones are taken, or to
twice the number wanted, if that is more."""
_CHUNK = 8192
_UNIT = 1e-6
"""Norms this near to 1 are not divided by: float32 is no more exact."""
_BLOCK = 64
_NOTHING = -9.0
"""Score of what only fills a block; cosines end at -1."""
_LAST = (1 << 32) - 1


@dataclass(frozen=True)
class RetrievalSettings:
    """How much is retrieved; the defaults are the authors'.

    Attributes:
        place_num: Places per prompt.
        verb_num: Modifiers of each kind taken from one place (the authors draw them at random; here they are the
            nearest).
        topk_num: Modifiers of each kind kept per prompt, over all its places.
    """

    place_num: int = 3
    verb_num: int = 5
    topk_num: int = 5

    def __post_init__(self) -> None:
        """Checks ranges."""
        if min(self.place_num, self.verb_num, self.topk_num) < 1:
            raise GraphError(
                f"Retrieval needs place_num, verb_num and topk_num >= 1. Got {self.place_num}, {self.verb_num} and "
                f"{self.topk_num}."
            )


@dataclass(frozen=True)
class Found:
    """A phrase that was retrieved.

    Attributes:
        phrase: The phrase.
        kind: `place`, `verb_object` or `scenario`.
        score: Cosine to the prompt, rounded to `DECIMALS`.
        count: Captions that link it to the retrieved places; for a place, captions that name it.
    """

    phrase: str
    kind: Kind
    score: float
    count: int


def matrix_search(queries: NDArray[np.float32], nodes: Nodes, count: int) -> NDArray[np.int64]:
    """The exact search: one matrix product of all prompts with all nodes, a slab of nodes at a time.

    The best `count` of a slab lie in the `count` blocks of 64 with the largest maxima, so only those are looked into.
    Nodes whose scores are equal to `DECIMALS` are taken oldest first.
    """
    best = np.zeros((len(queries), 0), np.int64)
    columns, right = np.arange(len(queries)), np.ascontiguousarray(queries.T)
    for begin in range(0, len(nodes), _CHUNK):
        norms = np.maximum(nodes.norms[begin : begin + _CHUNK], 1e-12)
        vectors = np.asarray(nodes.vectors[begin : begin + _CHUNK])
        if np.abs(norms - 1).max() > _UNIT:
            vectors = (vectors / norms[:, None]).astype(np.float32)
        # Prompts run along the fast axis, so that the maxima of all of them are taken side by side.
        scores = vectors @ right
        short = -len(scores) % _BLOCK
        if short:
            scores = np.pad(scores, ((0, short), (0, 0)), constant_values=_NOTHING)
        blocks = scores.reshape(-1, _BLOCK, len(queries))
        maxima = _keys(blocks.max(axis=1).T, np.arange(len(blocks)))
        chosen = np.take_along_axis(_positions(maxima), _largest(maxima, count), axis=1)
        inside = blocks[chosen, :, columns[:, None]].reshape(len(queries), -1)
        numbers = begin + (chosen[:, :, None] * _BLOCK + np.arange(_BLOCK)).reshape(len(queries), -1)
        keys = np.concatenate([best, _keys(inside, numbers)], axis=1)
        best = np.take_along_axis(keys, _largest(keys, count), axis=1)
    return _positions(best)


def _keys(scores: NDArray[np.float32], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integers that sort like rounded scores, and of equal ones the smaller number first."""
    return (np.rint(scores * 10**DECIMALS).astype(np.int64) << 32) + (_LAST - numbers)


def _positions(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers that `_keys` put in."""
    return _LAST - (keys & _LAST)


def _largest(keys: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Columns of the `count` largest keys of each row, in no order."""
    count = min(count, keys.shape[1])
    return np.argpartition(keys, keys.shape[1] - count, axis=1)[:, keys.shape[1] - count :]


def _exact(query: NDArray[np.float32], vectors: NDArray[np.float32], norms: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines of one prompt to some nodes, the same in whatever batch the prompt came."""
    products = vectors.astype(np.float64) * query.astype(np.float64)
    return np.asarray(np.round(products.sum(axis=1) / np.maximum(norms, 1e-12), DECIMALS))


def _ranked(scores: NDArray[np.float64], counts: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order by score; the higher count, then the older node, on a tie."""
    return np.lexsort((numbers, -counts, -scores))


def _near(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], norms: NDArray[np.float32], count: int
) -> NDArray[np.int64]:
    """For each prompt the columns of at most `count` nodes, by single precision; `(prompts, nodes)`."""
    columns = np.arange(len(vectors))
    if len(vectors) <= count:
        return np.broadcast_to(columns, (len(queries), len(vectors)))
    near = [
        _largest(_keys((part @ vectors.T / np.maximum(norms, 1e-12)).astype(np.float32), columns), count)
        for part in np.array_split(queries, -(-len(queries) // _BLOCK))
    ]
    return np.sort(np.concatenate(near), axis=1)


def _modifiers(
    graph: RelationGraph, kind: Kind, queries: NDArray[np.float32], places: Sequence[NDArray[np.int64]],
    settings: RetrievalSettings,
) -> list[list[Found]]:  # fmt: skip
    """Modifiers of one kind for each prompt, given its places; a place that many prompts share is read once."""
    nodes, edges = graph.nodes[kind], graph.edges[kind]
    narrowed = max(_MANY, 2 * settings.verb_num)
    visitors: dict[int, list[int]] = {}
    for prompt, hubs in enumerate(places):
        for hub in hubs.tolist():
            visitors.setdefault(hub, []).append(prompt)
    pools: list[dict[int, tuple[float, int]]] = [{} for _ in places]
    for hub, prompts in visitors.items():
        targets, weights = edges.of(hub)
        numbers, counts = targets.astype(np.int64), weights.astype(np.int64)
        vectors, norms = np.asarray(nodes.vectors[numbers]), nodes.norms[numbers]
        for prompt, near in zip(prompts, _near(queries[prompts], vectors, norms, narrowed), strict=True):
            scores, pool = _exact(queries[prompt], vectors[near], norms[near]), pools[prompt]
            for index in _ranked(scores, counts[near], numbers[near])[: settings.verb_num]:
                number = int(numbers[near[index]])
                pool[number] = (float(scores[index]), pool.get(number, (0.0, 0))[1] + int(counts[near[index]]))
    return [_best(nodes, kind, pool, settings.topk_num) for pool in pools]


def _best(nodes: Nodes, kind: Kind, pool: dict[int, tuple[float, int]], count: int) -> list[Found]:
    order = sorted(pool, key=lambda number: (-pool[number][0], -pool[number][1], number))
    return [Found(nodes.phrase(number), kind, *pool[number]) for number in order[:count]]


def retrieve(
    graph: RelationGraph,
    vectors: NDArray[np.float32],
    settings: RetrievalSettings | None = None,
    search: Search = matrix_search,
) -> list[list[Found]]:
    """Retrieves places and modifiers for many prompts at once.

    Places by cosine to the prompt; then all neighbours of these places by cosine to the prompt, the co-occurrence count
    deciding ties. The result for a prompt does not depend on the others.

    Args:
        graph: The graph.
        vectors: Embeddings of the prompts by the graph's embedder, `(prompts, dimensions)`.
        settings: How much.
        search: How candidates for the places are found; `rapo_lightning.stage1.search` has one for a GPU.

    Returns:
        For each prompt the places, then verb-object modifiers, then scenario modifiers, each best first. However low
        the scores are, something is found; thresholds are the caller's.

    Raises:
        GraphError: If the vectors have other dimensions than the graph's.
    """
    settings = settings or RetrievalSettings()
    queries = _queries(graph, vectors)
    if not len(queries):
        return []
    wanted = min(settings.place_num + SPARE, len(graph.places))
    candidates = np.sort(search(queries, graph.places, wanted), axis=1)
    places = [_places(graph.places, query, rows, settings) for query, rows in zip(queries, candidates, strict=True)]
    modifiers = [
        _modifiers(graph, kind, queries, [numbers for numbers, _ in places], settings) for kind in MODIFIER_KINDS
    ]
    return [
        [*found, *verb_objects, *scenarios]
        for (_, found), verb_objects, scenarios in zip(places, *modifiers, strict=True)
    ]


def _queries(graph: RelationGraph, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The prompts' vectors at unit length."""
    if vectors.ndim != 2 or vectors.shape[1] != graph.dimensions:
        raise GraphError(
            f"Prompts must be embedded like the graph, with {graph.dimensions} dimensions. Got an array of shape "
            f"{vectors.shape}; use the embedder {graph.embedder!r}."
        )
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors / norms, dtype=np.float32)


def _places(
    nodes: Nodes, query: NDArray[np.float32], candidates: NDArray[np.int64], settings: RetrievalSettings
) -> tuple[NDArray[np.int64], list[Found]]:
    """Numbers and phrases of the nearest places among candidates, the best first."""
    scores = _exact(query, np.asarray(nodes.vectors[candidates]), nodes.norms[candidates])
    counts = nodes.caption_offsets[candidates + 1] - nodes.caption_offsets[candidates]
    order = _ranked(scores, counts, candidates)[: settings.place_num]
    found = [Found(nodes.phrase(int(candidates[i])), "place", float(scores[i]), int(counts[i])) for i in order]
    return candidates[order], found
