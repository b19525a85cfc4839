"""`graph`: build, add, info, import, export and extract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..console import say
from ..data.resources import find
from ..errors import UserError
from ..recipe import Recipe


def _encoder(name: str) -> Any:
    from ..checkpoints import ensure
    from ..models import ModelPool, SentenceEmbedder

    ensure([name])
    return ModelPool(embedder=SentenceEmbedder(name, batch_size=256)).embedder


def _sources(names: list[str]) -> list[Path]:
    paths = [find(name) for name in names]
    for name, path in zip(names, paths, strict=True):
        if path is None or not path.is_file():
            raise UserError(f"A graph is built from CSV files. Got {name!r}, which is no file.")
    return [path for path in paths if path is not None]


def _report(graph: Any, reports: Mapping[str, object]) -> None:
    for source, told in reports.items():
        print(f"{source}: {told}")
    nodes = ", ".join(f"{len(graph.nodes[kind])} {kind}s" for kind in graph.nodes)
    links = sum(len(edges) for edges in graph.edges.values())
    print(f"{graph.captions} captions, {nodes}, {links} links, embedded by {graph.embedder}")


def build(csv: list[str], /, *, out: str, embedder: str = "all-minilm-l6-v2") -> None:
    """Build a relation graph from CSVs.

    Args:
        csv: CSVs with the columns Input, verb_obj_word, scenario_word, place.
        out: Folder to write.
        embedder: Checkpoint of the embedder.
    """
    from relation_graph import build_graph, save_graph

    graph, reports = build_graph(_sources(csv), _encoder(embedder), progress=True)
    save_graph(graph, Path(out))
    _report(graph, reports)


def add(folder: str, csv: list[str], /, *, times: int = 1) -> None:
    """Add CSVs to a relation graph; one that it holds already is left out.

    Args:
        folder: Folder of a graph.
        csv: CSVs with the columns Input, verb_obj_word, scenario_word, place.
        times: How many times the graph is to hold each CSV.
    """
    from relation_graph import build_graph, graph_writer, load_graph, still_to_add

    place, paths = find(folder) or Path(folder), _sources(csv)
    reports: Mapping[str, object] = {}
    graph = load_graph(place)
    with graph_writer(place) as save:
        # Once more, since another writer may have been at work until now.
        graph = load_graph(place)
        left = still_to_add(paths, graph, times)
        if left:
            graph, reports = build_graph(left, _encoder(graph.embedder), graph, progress=True)
            save(graph)
    for path in dict.fromkeys(path for path in paths if path not in left):
        print(f"{path}: the graph holds it already; to add it once more, say with `--times` how often it is to hold it")
    _report(graph, reports)


def info(folder: str, /, *, place: str = "", limit: int = 20, draw: str = "") -> None:
    """Show the hubs of a relation graph, and the neighbourhood of a place.

    Args:
        folder: Folder of a graph.
        place: Place whose modifiers to list.
        limit: Most lines of a list.
        draw: PNG or SVG of the neighbourhood to write.
    """
    from relation_graph import load_graph
    from relation_graph.drawing import draw_neighbourhood

    graph = load_graph(find(folder) or Path(folder))
    _report(graph, {})
    for key, value in graph.origin.items():
        print(f"{key}: {value}")
    print(f"{'captions':>9} {'links':>7}  place")
    for phrase, links, captions in graph.hubs(limit):
        print(f"{captions:9} {links:7}  {phrase}")
    number = graph.find_place(place) if place else None
    if number is not None:
        for kind, phrase, count in list(graph.neighbours(number))[:limit]:
            print(f"{count:9} {kind:>12}  {phrase}")
    if draw:
        centre = number if number is not None else graph.find_place(graph.hubs(1)[0][0])
        draw_neighbourhood(graph, centre, Path(draw))
        print(f"drawn to {draw}")


def import_graph(source: str, /, *, out: str, embedder: str = "all-minilm-l6-v2") -> None:
    """Read a relation graph in the published format (JSON and GraphML).

    Args:
        source: Folder with the published files.
        out: Folder to write.
        embedder: Checkpoint of the embedder that made its vectors.
    """
    from relation_graph import save_graph
    from relation_graph.published import import_published

    graph = import_published(Path(source), embedder)
    save_graph(graph, Path(out))
    _report(graph, {})


def export_graph(folder: str, /, *, out: str) -> None:
    """Write a relation graph in the published format.

    Args:
        folder: Folder of a graph.
        out: Folder to write.
    """
    from relation_graph import load_graph
    from relation_graph.published import export_published

    export_published(load_graph(find(folder) or Path(folder)), Path(out))
    print(f"published format written to {out}")


def extract(recipe: Recipe, *, captions: str = "", out: str) -> None:
    """Read places and modifiers off captions into a CSV, by the recipe's `stage1.extractor`.

    Args:
        recipe: Names the extractor and the language model.
        captions: A txt file with one a line; default: the recipe's `stage1.captions`.
        out: CSV to write; a half-written one is continued.
    """
    from ..data.captions import read_captions
    from ..recipe.components import build as build_component
    from ..running.pool import fetch_models, open_pool
    from ..stage1.extract import extract_captions, open_log

    texts = read_captions(captions or recipe.stage1.captions)
    extractor = build_component(recipe.stage1.extractor, "stage1.extractor")
    models = open_pool(recipe, ("language_model",))
    log = open_log(Path(out), texts)
    fetch_models(recipe, ("language_model",))
    empty = extract_captions(texts, extractor, models.lend_language(), log)
    say(f"{len(texts)} captions in {out}, {empty} of those read now without a place")
