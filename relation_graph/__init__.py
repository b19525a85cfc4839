"""The relation graph of stage 1 as a library of its own: it knows neither torch nor the stages.

Places are hubs; verb-object and scenario modifiers are linked to the places that captions name them with.
"""

from .build import GraphBuilder, build_graph
from .graph import Edges, Encoder, GraphError, Kind, Nodes, RelationGraph, Source, phrase_key
from .retrieval import Found, RetrievalSettings, matrix_search, retrieve
from .rows import COLUMNS, GraphRow, RowReport, parse_cell, read_rows
from .sources import still_to_add
from .storage import graph_writer, load_graph, read_manifest, save_graph

__all__ = [
    "COLUMNS",
    "Edges",
    "Encoder",
    "Found",
    "GraphBuilder",
    "GraphError",
    "GraphRow",
    "Kind",
    "Nodes",
    "RelationGraph",
    "RetrievalSettings",
    "RowReport",
    "Source",
    "build_graph",
    "graph_writer",
    "load_graph",
    "matrix_search",
    "parse_cell",
    "phrase_key",
    "read_manifest",
    "read_rows",
    "retrieve",
    "save_graph",
    "still_to_add",
]
