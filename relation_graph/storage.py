"""A graph on disk: flat arrays and Arrow strings that open by memory map, so loading reads next to nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

from .graph import MODIFIER_KINDS, Edges, GraphError, Kind, Nodes, RelationGraph

MANIFEST = "graph.json"
FORMAT_VERSION = 1
_KINDS: tuple[Kind, ...] = ("place", *MODIFIER_KINDS)
_NODE_ARRAYS = ("vectors", "norms", "caption_offsets", "captions")
_EDGE_ARRAYS = ("offsets", "targets", "counts")


def _write_strings(path: Path, phrases: pyarrow.Array) -> None:
    table = pyarrow.table({"phrase": phrases.cast(pyarrow.large_string())})
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        # One batch, so that the column maps as one array.
        writer.write_table(table, max_chunksize=max(1, len(phrases)))


def _read_strings(path: Path) -> pyarrow.Array:
    column = pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all().column("phrase")
    return column.chunk(0) if column.num_chunks else pyarrow.array([], pyarrow.large_string())


def save_graph(graph: RelationGraph, folder: Path) -> None:
    """Writes a graph; a graph that is there already is replaced only when the new one is whole.

    Args:
        graph: The graph.
        folder: Its folder, named like `relation_graph/graph_data/<name>`.

    Raises:
        GraphError: If `folder` holds something that is no graph, or cannot be written.
    """
    _restore(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise GraphError(
            f"A graph is written to an empty folder or over a graph. Got {folder}, which holds other files."
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        incoming = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        incoming.chmod(0o755)
        _write_files(graph, incoming)
        if folder.exists():
            # Maps of the old graph that are still open keep their files.
            previous = _previous(folder)
            shutil.rmtree(previous, ignore_errors=True)
            os.replace(folder, previous)
            os.replace(incoming, folder)
            shutil.rmtree(previous)
        else:
            os.replace(incoming, folder)
    except OSError as error:
        raise GraphError(
            f"The graph cannot be written to {folder}: {error.strerror}. Choose another folder."
        ) from error


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _restore(folder: Path) -> None:
    """Puts a graph back that a writer, killed halfway, had moved away to make room for the new one."""
    if not folder.exists() and (_previous(folder) / MANIFEST).is_file():
        os.replace(_previous(folder), folder)


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
    _restore(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise GraphError(
            f"A graph is a folder with {MANIFEST}. Got {str(folder)!r}, which has none; make one with `graph build` or "
            "`graph import`."
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, files = manifest["format_version"], manifest["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise GraphError(f"{path} is no graph manifest. Got {error!r} on reading it; build the graph anew.") from error
    if version != FORMAT_VERSION:
        raise GraphError(f"The graph format must be version {FORMAT_VERSION}. Got {version} in {path}; build it anew.")
    for name, facts in files.items():
        size = facts["bytes"]
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise GraphError(f"The graph in {folder} is not whole: {name} {state}. Copy or build it anew.")
    return manifest


def load_graph(folder: Path) -> RelationGraph:
    """Opens a graph by memory map: pages are read when a search touches them.

    Args:
        folder: Written by `save_graph`.

    Raises:
        GraphError: As in `read_manifest`.
    """
    manifest = read_manifest(folder)

    def arrays(stem: str, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        return {name: np.load(folder / f"{stem}.{name}.npy", mmap_mode="r") for name in names}

    nodes: dict[Kind, Nodes] = {
        kind: Nodes(_read_strings(folder / f"{kind}.phrases.arrow"), **arrays(kind, _NODE_ARRAYS)) for kind in _KINDS
    }
    edges: dict[Kind, Edges] = {kind: Edges(**arrays(f"place_{kind}", _EDGE_ARRAYS)) for kind in MODIFIER_KINDS}
    return RelationGraph(nodes, edges, manifest["embedder"], manifest["captions"], manifest["origin"])
