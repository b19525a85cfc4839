"""A graph on disk: flat arrays and Arrow strings that open by memory map, so loading reads next to nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

from .folder import MANIFEST, incoming, locked, recover, take_in
from .graph import MODIFIER_KINDS, Edges, GraphError, Kind, Nodes, RelationGraph, Source

FORMAT_VERSION = 1
_KINDS: tuple[Kind, ...] = ("place", *MODIFIER_KINDS)
_NODE_ARRAYS = ("vectors", "norms", "caption_offsets", "captions")
_EDGE_ARRAYS = ("offsets", "targets", "counts")
_FILES = (
    *(f"{kind}.phrases.arrow" for kind in _KINDS),
    *(f"{kind}.{name}.npy" for kind in _KINDS for name in _NODE_ARRAYS),
    *(f"place_{kind}.{name}.npy" for kind in MODIFIER_KINDS for name in _EDGE_ARRAYS),
)
_FIELDS: dict[str, type] = {
    "embedder": str, "dimensions": int, "captions": int, "nodes": dict, "edges": dict, "origin": dict, "files": dict,
    "sources": list,
}  # fmt: skip


def _write_strings(path: Path, phrases: pyarrow.Array) -> None:
    table = pyarrow.table({"phrase": phrases.cast(pyarrow.large_string())})
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        # One batch, so that the column maps as one array.
        writer.write_table(table, max_chunksize=max(1, len(phrases)))


def _read_strings(path: Path) -> pyarrow.Array:
    column = pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all().column("phrase")
    return column.chunk(0) if column.num_chunks else pyarrow.array([], pyarrow.large_string())


@contextmanager
def graph_writer(folder: Path) -> Iterator[Callable[[RelationGraph], None]]:
    """Keeps other writers away from a graph while it is read, changed and saved.

    Killed at any moment, it leaves the old graph or the new one, whole; what else it leaves, the next writer removes.

    Args:
        folder: Folder of the graph, named like `relation_graph/graph_data/<name>`; it need not be there.

    Yields:
        What saves a graph there; a graph that is there already is replaced only when the new one is whole.

    Raises:
        GraphError: If another writer is at work, or `folder` holds something that is no graph or cannot be written.
    """
    folder = folder.resolve()

    def save(graph: RelationGraph) -> None:
        with _write_faults(folder):
            incoming(folder).mkdir()
            _write_files(graph, incoming(folder))
            take_in(folder)

    with ExitStack() as stack:
        with _write_faults(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
            if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
                raise GraphError(
                    f"A graph is written to an empty folder or over a graph. Got {folder}, which holds other files."
                )
        yield save


@contextmanager
def _write_faults(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GraphError(
            f"The graph cannot be written to {folder}: {error.strerror}. Choose another folder."
        ) from error


def save_graph(graph: RelationGraph, folder: Path) -> None:
    """Writes a graph; arguments and errors as in `graph_writer`."""
    with graph_writer(folder) as save:
        save(graph)


def _write_files(graph: RelationGraph, folder: Path) -> None:
    for kind in _KINDS:
        nodes = graph.nodes[kind]
        _write_strings(folder / f"{kind}.phrases.arrow", nodes.phrases)
        for name in _NODE_ARRAYS:
            np.save(folder / f"{kind}.{name}.npy", getattr(nodes, name))
    for kind in MODIFIER_KINDS:
        for name in _EDGE_ARRAYS:
            np.save(folder / f"place_{kind}.{name}.npy", getattr(graph.edges[kind], name))
    manifest = {
        "format_version": FORMAT_VERSION,
        "embedder": graph.embedder,
        "dimensions": graph.dimensions,
        "captions": graph.captions,
        "nodes": {kind: len(graph.nodes[kind]) for kind in _KINDS},
        "edges": {kind: len(graph.edges[kind]) for kind in MODIFIER_KINDS},
        "origin": graph.origin,
        "sources": [asdict(source) for source in graph.sources],
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(folder.iterdir())
        },
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The facts of a graph folder, after checking that its files are there and whole.

    Raises:
        GraphError: If it is no graph folder, of another format, or a file is missing or cut off.
    """
    recover(folder.resolve())
    path = folder / MANIFEST
    if not path.is_file():
        raise GraphError(
            f"A graph is a folder with {MANIFEST}. Got {str(folder)!r}, which has none; make one with `graph build` or "
            "`graph import`."
        )
    manifest = _parse_manifest(path)
    for name in _FILES:
        size = manifest["files"][name]["bytes"]
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise GraphError(f"The graph in {folder} is not whole: {name} {state}. Copy or build it anew.")
    return manifest


def _parse_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GraphError(f"{path} is no graph manifest. Got {error!r} on reading it; build the graph anew.") from error
    if version != FORMAT_VERSION:
        raise GraphError(f"The graph format must be version {FORMAT_VERSION}. Got {version} in {path}; build it anew.")
    # Graphs of the first releases do not know their CSVs.
    manifest.setdefault("sources", [])
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(manifest.get(name), kind)]
    if not wrong:
        facts = manifest["files"]
        wrong = [name for name in _FILES if not isinstance(facts.get(name), dict) or "bytes" not in facts[name]]
    if wrong:
        raise GraphError(f"{path} is no graph manifest. Got no usable {', '.join(wrong)} in it; build the graph anew.")
    return manifest


def load_graph(folder: Path) -> RelationGraph:
    """Opens a graph by memory map: pages are read when a search touches them.

    Args:
        folder: Written by `save_graph`.

    Raises:
        GraphError: As in `read_manifest`, or if a file does not fit the manifest.
    """
    manifest = read_manifest(folder)
    try:
        graph = _open(folder, manifest)
        wrong = _misfits(graph, manifest)
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise GraphError(
            f"The graph in {folder} is damaged. Got {str(error).splitlines()[0]!r} on opening it; copy or build it anew."
        ) from error
    if wrong:
        raise GraphError(
            f"The files of a graph must fit its {MANIFEST}. Got {', '.join(wrong)} in {folder} of another size; copy or "
            "build it anew."
        )
    return graph


def _open(folder: Path, manifest: dict[str, Any]) -> RelationGraph:
    def arrays(stem: str, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        return {name: np.load(folder / f"{stem}.{name}.npy", mmap_mode="r") for name in names}

    nodes: dict[Kind, Nodes] = {
        kind: Nodes(_read_strings(folder / f"{kind}.phrases.arrow"), **arrays(kind, _NODE_ARRAYS)) for kind in _KINDS
    }
    edges: dict[Kind, Edges] = {kind: Edges(**arrays(f"place_{kind}", _EDGE_ARRAYS)) for kind in MODIFIER_KINDS}
    sources = [Source(**item) for item in manifest["sources"]]
    return RelationGraph(nodes, edges, manifest["embedder"], manifest["captions"], manifest["origin"], sources)


def _misfits(graph: RelationGraph, manifest: dict[str, Any]) -> list[str]:
    """Names of the parts that have other sizes than the manifest says, or than each other."""
    dimensions, places = int(manifest["dimensions"]), int(manifest["nodes"]["place"])
    wrong: list[str] = []
    for kind, nodes in graph.nodes.items():
        count, captions = int(manifest["nodes"][kind]), int(nodes.caption_offsets[-1])
        sizes = (len(nodes), *(getattr(nodes, name).shape for name in _NODE_ARRAYS))
        if sizes != (count, (count, dimensions), (count,), (count + 1,), (captions,)):
            wrong.append(kind)
    for kind, edges in graph.edges.items():
        links = int(manifest["edges"][kind])
        shapes = (*(getattr(edges, name).shape for name in _EDGE_ARRAYS), int(edges.offsets[-1]))
        if shapes != ((places + 1,), (links,), (links,), links):
            wrong.append(f"place_{kind}")
    return wrong
