"""`graph`: build, add, info, import, export and extract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from relation_graph import COLUMNS, GraphError, RelationGraph, RowReport, build_graph, load_graph, save_graph
from relation_graph.drawing import draw_neighbourhood
from relation_graph.published import export_published, import_published

from ..checkpoints import ensure
from ..data.resources import find
from ..errors import UserError
from ..models import SentenceEmbedder
from ..recipe.files import load_recipe, recipe_path
from .common import default_device
from .extract import extract


def _encoder(name: str) -> SentenceEmbedder:
    ensure([name])
    encoder = SentenceEmbedder(name, batch_size=256)
    encoder.to(default_device())
    return encoder


def _sources(names: list[str]) -> list[Path]:
    paths = [find(name) for name in names]
    for name, path in zip(names, paths, strict=True):
        if path is None or not path.is_file():
            raise UserError(f"A graph is built from CSV files. Got {name!r}, which is no file.")
    return [path for path in paths if path is not None]


def _report(graph: RelationGraph, reports: dict[str, RowReport]) -> None:
    for source, report in reports.items():
        print(f"{source}: {report}")
    nodes = ", ".join(f"{len(graph.nodes[kind])} {kind}s" for kind in graph.nodes)
    links = sum(len(edges) for edges in graph.edges.values())
    print(f"{graph.captions} captions, {nodes}, {links} links, embedded by {graph.embedder}")


def _build(options: Namespace) -> None:
    graph, reports = build_graph(_sources(options.csv), _encoder(options.embedder), progress=True)
    save_graph(graph, Path(options.out))
    _report(graph, reports)


def _add(options: Namespace) -> None:
    folder = _folder(options.dir)
    old = load_graph(folder)
    graph, reports = build_graph(_sources(options.csv), _encoder(old.embedder), old, progress=True)
    save_graph(graph, folder)
    _report(graph, reports)


def _info(options: Namespace) -> None:
    graph = load_graph(_folder(options.dir))
    _report(graph, {})
    for key, value in graph.origin.items():
        print(f"{key}: {value}")
    print(f"{'captions':>9} {'links':>7}  place")
    for phrase, links, captions in graph.hubs(options.limit):
        print(f"{captions:9} {links:7}  {phrase}")
    place = graph.find_place(options.place) if options.place else None
    if place is not None:
        for kind, phrase, count in list(graph.neighbours(place))[: options.limit]:
            print(f"{count:9} {kind:>12}  {phrase}")
    if options.draw:
        number = place if place is not None else graph.find_place(graph.hubs(1)[0][0])
        draw_neighbourhood(graph, number, Path(options.draw))
        print(f"drawn to {options.draw}")


def _import(options: Namespace) -> None:
    graph = import_published(Path(options.source), options.embedder)
    save_graph(graph, Path(options.out))
    _report(graph, {})


def _export(options: Namespace) -> None:
    graph = load_graph(_folder(options.dir))
    export_published(graph, Path(options.out))
    print(f"published format written to {options.out}")


def _extract(options: Namespace) -> None:
    extract(load_recipe(recipe_path(options.recipe)), options.captions, Path(options.out))


def _folder(name: str) -> Path:
    return find(name) or Path(name)


_Option = tuple[tuple[str, ...], dict[str, Any]]
_OUT: _Option = (("--out",), {"type": str, "required": True, "help": "folder to write"})
_DIR: _Option = (("dir",), {"type": str, "help": "folder of a graph"})
_CSV: _Option = (("csv",), {"type": str, "nargs": "+", "help": f"CSV with the columns {', '.join(COLUMNS)}"})
_EMBEDDER: _Option = (
    ("--embedder",),
    {"type": str, "default": "all-minilm-l6-v2", "help": "checkpoint of the embedder"},
)
ACTIONS: dict[str, tuple[str, Callable[[Namespace], None], tuple[_Option, ...]]] = {
    "build": ("build a graph from CSVs", _build, (_CSV, _OUT, _EMBEDDER)),
    "add": ("add CSVs to a graph", _add, (_DIR, _CSV)),
    "info": (
        "show counts, the largest hubs and a neighbourhood",
        _info,
        (
            _DIR,
            (("--place",), {"type": str, "default": "", "help": "place whose neighbours to list"}),
            (("--limit",), {"type": int, "default": 10, "help": "lines to show"}),
            (("--draw",), {"type": str, "default": "", "help": "PNG or SVG of the neighbourhood to write"}),
        ),
    ),
    "import": (
        "read a graph in the published format (JSON and GraphML)",
        _import,
        ((("source",), {"type": str, "help": "folder with the published files"}), _OUT, _EMBEDDER),
    ),
    "export": ("write a graph in the published format", _export, (_DIR, _OUT)),
    "extract": (
        "read places and modifiers off captions into a CSV, by the recipe's `stage1.extractor`",
        _extract,
        (
            (("recipe",), {"type": str, "help": "recipe, a path or a shipped name"}),
            (("--captions",), {"type": str, "default": "", "help": "txt with one a line; default: the recipe's"}),
            (("--out",), {"type": str, "required": True, "help": "CSV to write; a half-written one is continued"}),
        ),
    ),
}


def run(arguments: list[str]) -> None:
    """Runs one of `ACTIONS`.

    Raises:
        UserError: If the arguments or the graph are not usable.
    """
    if not arguments or arguments[0] not in ACTIONS:
        if arguments and arguments[0] in ("-h", "--help"):
            print("usage: rapo-lightning graph ACTION ...\n")
            print("\n".join(f"  {name:8} {text}" for name, (text, _, _) in ACTIONS.items()))
            return
        raise UserError(f"`graph` takes one of {', '.join(ACTIONS)}. Got {arguments[0] if arguments else 'nothing'!r}.")
    text, action, options = ACTIONS[arguments[0]]
    parser = ArgumentParser(prog=f"rapo-lightning graph {arguments[0]}", description=text, exit_on_error=False)
    for names, settings in options:
        parser.add_argument(*names, **settings)
    try:
        action(parser.parse_args(arguments[1:]))
    except ArgumentError as error:
        raise UserError(" ".join(str(error).split())) from error
    except GraphError as error:
        raise UserError(str(error)) from error
