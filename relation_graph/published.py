"""The published format of RAPO's graphs: JSON dictionaries and two GraphML files.

`verb_to_idx, scenario_to_idx, place_to_idx` number the phrases, `verb_in_sentence, scenario_in_sentence,
place_in_sentence` list the captions of each, `verb_words_embed, scenario_words_embed, place_embed` hold the vectors in
that order, `data_info` the counts; `graph_place_verb.graphml` and `graph_place_scene.graphml` hold the links.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from .build import edges_from_codes
from .graph import MODIFIER_KINDS, Edges, GraphError, Kind, Nodes, RelationGraph

_NAMES: dict[Kind, tuple[str, str]] = {
    "place": ("place", "place_embed"),
    "verb_object": ("verb", "verb_words_embed"),
    "scenario": ("scenario", "scenario_words_embed"),
}
_GRAPHS: dict[Kind, str] = {"verb_object": "graph_place_verb.graphml", "scenario": "graph_place_scene.graphml"}
_COUNTS = {"valid_sentence", "p_idx", "s_idx", "v_idx"}


def _read_json(folder: Path, name: str) -> Any:
    path = folder / f"{name}.json"
    if not path.is_file():
        raise GraphError(f"A published graph is a folder with {name}.json among others. Got {folder}, which lacks it.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GraphError(f"{path} must be JSON. Got an error on reading it: {error}.") from error


def _read_nodes(folder: Path, kind: Kind) -> Nodes:
    name, embed = _NAMES[kind]
    numbers: dict[str, int] = _read_json(folder, f"{name}_to_idx")
    phrases = sorted(numbers, key=numbers.__getitem__)
    if [numbers[phrase] for phrase in phrases] != list(range(len(phrases))):
        raise GraphError(
            f"{name}_to_idx.json must number its phrases from 0 without gaps. Got other numbers in {folder}."
        )
    given = _read_json(folder, embed)
    vectors = np.array([given[phrase] for phrase in phrases] if isinstance(given, dict) else given, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(phrases):
        raise GraphError(
            f"{embed}.json must hold one vector per phrase. Got {len(given)} for {len(phrases)} phrases in {folder}."
        )
    sentences: dict[str, list[int]] = _read_json(folder, f"{name}_in_sentence")
    lists = [sentences.get(phrase, []) for phrase in phrases]
    offsets = np.concatenate([[0], np.cumsum([len(item) for item in lists])]).astype(np.int64)
    captions = np.array([number for item in lists for number in item], dtype=np.int32)
    norms = np.linalg.norm(vectors, axis=1).astype(np.float32)
    return Nodes(pyarrow.array(phrases, pyarrow.large_string()), vectors, norms, offsets, captions)


def _directions(one: str, other: str, places: dict[str, int], modifiers: dict[str, int]) -> list[tuple[int, int]]:
    """(place, modifier) of a link; both ways where both phrases are both, since GraphML's links have no direction."""
    ways = {(one, other), (other, one)}
    return [
        (places[place], modifiers[modifier]) for place, modifier in ways if place in places and modifier in modifiers
    ]


def _read_edges(folder: Path, kind: Kind, nodes: dict[Kind, Nodes]) -> Edges:
    import networkx

    path = folder / _GRAPHS[kind]
    if not path.is_file():
        raise GraphError(f"A published graph is a folder with {path.name} among others. Got {folder}, which lacks it.")
    try:
        links = networkx.read_graphml(path)
    except Exception as error:  # networkx raises the XML parser's errors and its own
        raise GraphError(f"{path} must be GraphML. Got an error on reading it: {error}.") from error
    places = {phrase: number for number, phrase in enumerate(nodes["place"].texts())}
    modifiers = {phrase: number for number, phrase in enumerate(nodes[kind].texts())}
    captions: dict[Kind, list[set[int]]] = {
        k: [set(nodes[k].captions_of(i).tolist()) for i in range(len(nodes[k]))] for k in ("place", kind)
    }
    found: dict[int, int] = {}
    for one, other, data in links.edges(data=True):
        ways = _directions(one, other, places, modifiers)
        shared = {way: len(captions["place"][way[0]] & captions[kind][way[1]]) for way in ways}
        # Where the captions tell which way a link goes, they decide.
        for place, modifier in [way for way in ways if shared[way]] or ways:
            count = data.get("weight") if len(ways) == 1 else None
            found[place << 32 | modifier] = int(count or shared[place, modifier] or 1)
    codes = np.array(sorted(found), dtype=np.int64)
    return edges_from_codes(codes, np.array([found[int(code)] for code in codes], dtype=np.int64), len(places))


def import_published(folder: Path, embedder: str) -> RelationGraph:
    """Reads a graph in the published format.

    The published links carry no weights: they are counted from the captions that both ends share.

    Args:
        folder: Folder with the ten JSON and two GraphML files.
        embedder: Name of the model that made its vectors; the files do not say.

    Raises:
        GraphError: If a file is missing or does not fit the others.
    """
    info = _read_json(folder, "data_info")
    kinds: tuple[Kind, ...] = ("place", *MODIFIER_KINDS)
    nodes = {kind: _read_nodes(folder, kind) for kind in kinds}
    dimensions = {kind: table.vectors.shape[1] for kind, table in nodes.items() if len(table)}
    if len(set(dimensions.values())) != 1:
        raise GraphError(f"All vectors of a graph need the same dimensions. Got {dimensions} in {folder}.")
    edges = {kind: _read_edges(folder, kind, nodes) for kind in MODIFIER_KINDS}
    origin = {key: value for key, value in info.items() if key not in _COUNTS}
    return RelationGraph(nodes, edges, embedder, int(info.get("valid_sentence", 0)), origin)


def export_published(graph: RelationGraph, folder: Path) -> None:
    """Writes a graph in the published format; the links carry their weights as an attribute besides.

    Args:
        graph: The graph.
        folder: Folder to write to; created if need be.

    Raises:
        GraphError: If it cannot be written.
    """
    texts = {kind: nodes.texts() for kind, nodes in graph.nodes.items()}
    info = {"valid_sentence": graph.captions, "p_idx": len(texts["place"]), "s_idx": len(texts["scenario"]),
            "v_idx": len(texts["verb_object"]), **graph.origin}  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data_info.json").write_text(json.dumps(info, indent=4, ensure_ascii=False), encoding="utf-8")
        for kind in _NAMES:
            _write_nodes(graph.nodes[kind], texts[kind], kind, folder)
        for kind in MODIFIER_KINDS:
            _write_edges(graph.edges[kind], texts["place"], texts[kind], folder / _GRAPHS[kind])
    except OSError as error:
        raise GraphError(
            f"The graph cannot be written to {folder}: {error.strerror}. Choose another folder."
        ) from error


def _write_nodes(nodes: Nodes, texts: list[str], kind: Kind, folder: Path) -> None:
    name, embed = _NAMES[kind]
    values: dict[str, object] = {
        f"{name}_to_idx": {phrase: number for number, phrase in enumerate(texts)},
        f"{name}_in_sentence": {phrase: nodes.captions_of(number).tolist() for number, phrase in enumerate(texts)},
    }
    for file, value in values.items():
        (folder / f"{file}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    with (folder / f"{embed}.json").open("w", encoding="utf-8") as sink:
        # Row by row: all vectors of a large graph as Python numbers would take tens of gigabytes.
        rows = (json.dumps(nodes.vectors[i].tolist()) for i in range(len(nodes)))
        sink.write("[" + next(rows, ""))
        sink.writelines(", " + row for row in rows)
        sink.write("]")


def _write_edges(edges: Edges, places: list[str], modifiers: list[str], path: Path) -> None:
    import networkx

    links = networkx.Graph()
    sources = np.repeat(np.arange(len(places)), np.diff(edges.offsets))
    for place, modifier, count in zip(sources.tolist(), edges.targets.tolist(), edges.counts.tolist(), strict=True):
        links.add_edge(places[place], modifiers[modifier], weight=count)
    networkx.write_graphml(links, path)
