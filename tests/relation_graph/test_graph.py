from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relation_graph import (
    GraphBuilder,
    GraphError,
    GraphRow,
    RelationGraph,
    build_graph,
    load_graph,
    save_graph,
)
from relation_graph.drawing import draw_neighbourhood
from tests.helpers import WordEmbedder

ROWS = [
    GraphRow("1", ("walking a dog", "a man"), ("calm",), ("a park",)),
    GraphRow("2", ("walking a dog",), (), ("A  Park", "a street")),
    GraphRow("3", ("a street",), ("calm", "busy"), ("a street",)),
]


def make_graph(rows: list[GraphRow]) -> RelationGraph:
    builder = GraphBuilder()
    for row in rows:
        builder.add(row)
    return builder.finish(WordEmbedder())


def same(one: RelationGraph, other: RelationGraph) -> bool:
    return (
        one.captions == other.captions
        and one.embedder == other.embedder
        and all(
            one.nodes[kind].texts() == other.nodes[kind].texts()
            and all(
                np.array_equal(getattr(one.nodes[kind], name), getattr(other.nodes[kind], name))
                for name in ("vectors", "norms", "caption_offsets", "captions")
            )
            for kind in one.nodes
        )
        and all(
            np.array_equal(getattr(one.edges[kind], name), getattr(other.edges[kind], name))
            for kind in one.edges
            for name in ("offsets", "targets", "counts")
        )
    )


def test_links_count_the_captions_that_name_both_ends() -> None:
    graph = make_graph(ROWS)
    assert graph.places.texts() == ["a park", "a street"]
    assert list(graph.neighbours(0)) == [
        ("verb_object", "walking a dog", 2),
        ("scenario", "calm", 1),
        ("verb_object", "a man", 1),
    ]
    # A phrase may be a place and a modifier.
    assert ("verb_object", "a street", 1) in list(graph.neighbours(1))
    assert graph.hubs(1) == [("a street", 4, 2)]
    assert graph.places.captions_of(1).tolist() == [1, 2]


def test_networkx_has_every_node_and_weight() -> None:
    graph = make_graph(ROWS).to_networkx()
    assert graph[("place", "a park")][("verb_object", "walking a dog")]["weight"] == 2
    assert graph.nodes[("place", "a street")]["captions"] == 2
    assert graph.number_of_edges() == 7


PHRASES = st.lists(st.sampled_from(["a dog", "A dog", "the sea", "a  cat", "rain", "Rain", "snow"]), max_size=3)
MANY = st.lists(
    st.builds(GraphRow, st.just("c"), PHRASES.map(tuple), PHRASES.map(tuple), PHRASES.map(tuple)),
    min_size=1,
    max_size=8,
)


@given(MANY, MANY)
@settings(max_examples=60, deadline=None)
def test_adding_equals_building_from_both(first: list[GraphRow], second: list[GraphRow]) -> None:
    first = [GraphRow("0", (), (), ("home",)), *first]
    builder = GraphBuilder(make_graph(first))
    for row in second:
        builder.add(row)
    assert same(builder.finish(WordEmbedder()), make_graph(first + second))


def write_csv(path: Path, rows: list[GraphRow]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Input", "verb_obj_word", "scenario_word", "place"])
        writer.writerows([row.caption, list(row.verb_objects), list(row.scenarios), list(row.places)] for row in rows)
    return path


def test_csvs_give_the_same_graph_at_once_and_one_after_the_other(tmp_path: Path) -> None:
    one, two = write_csv(tmp_path / "1.csv", ROWS[:1]), write_csv(tmp_path / "2.csv", ROWS[1:])
    both, reports = build_graph([one, two], WordEmbedder())
    first, _ = build_graph([one], WordEmbedder())
    save_graph(first, tmp_path / "g")
    added, _ = build_graph([two], WordEmbedder(), load_graph(tmp_path / "g"))
    assert same(both, added)
    assert [report.good for report in reports.values()] == [1, 2]
    save_graph(added, tmp_path / "g")
    assert same(both, load_graph(tmp_path / "g"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_graph_opens_by_memory_map(tmp_path: Path) -> None:
    save_graph(make_graph(ROWS), tmp_path / "g")
    graph = load_graph(tmp_path / "g")
    assert all(isinstance(nodes.vectors, np.memmap) for nodes in graph.nodes.values())
    assert same(graph, make_graph(ROWS))


def test_another_embedder_is_refused() -> None:
    graph, encoder = make_graph(ROWS), WordEmbedder()
    graph.check_encoder(encoder, 64)
    with pytest.raises(GraphError, match="Got the embedder 'words' with 32"):
        graph.check_encoder(encoder, 32)
    encoder.name = "others"
    with pytest.raises(GraphError, match="embedded by 'words'.*Got the embedder 'others'"):
        GraphBuilder(graph).finish(encoder)


def test_rows_without_any_place_make_no_graph() -> None:
    with pytest.raises(GraphError, match="at least one row with a place"):
        make_graph([GraphRow("1", ("walking",), (), ())])


def test_neighbourhoods_are_drawn(tmp_path: Path) -> None:
    graph = make_graph(ROWS)
    for name, start in (("n.png", b"\x89PNG"), ("n.svg", b"<?xml")):
        draw_neighbourhood(graph, 0, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(GraphError, match="PNG or SVG"):
        draw_neighbourhood(graph, 0, tmp_path / "n.txt")


def test_the_library_knows_neither_torch_nor_the_stages() -> None:
    code = (
        "import sys, relation_graph; print([m for m in ('torch', 'lightning', 'rapo_lightning') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
