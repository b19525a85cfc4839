from __future__ import annotations

import numpy as np
import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relation_graph import GraphBuilder, GraphError, GraphRow, Nodes, RetrievalSettings, matrix_search, retrieve
from relation_graph.retrieval import _CHUNK, _MANY, DECIMALS
from tests.helpers import WordEmbedder


def random_nodes(count: int, rng: np.random.Generator) -> Nodes:
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1).astype(np.float32)
    empty = np.zeros(count + 1, np.int64)
    return Nodes(pyarrow.array(["x"] * count), vectors, norms, empty, np.zeros(0, np.int32))


@given(st.sampled_from([1, 5, 63, 64, 65, 1000, _CHUNK - 1, _CHUNK + 70]), st.integers(1, 9), st.integers(0, 99))
@example(_CHUNK - 1, 6, 77)
@settings(max_examples=40, deadline=None)
def test_the_search_finds_what_brute_force_finds(count: int, wanted: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes, wanted = random_nodes(count, rng), min(wanted, count)
    queries = rng.normal(size=(3, 8)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    scores = queries @ nodes.vectors.T / nodes.norms
    found = matrix_search(queries, nodes, wanted)
    assert [len(set(row)) for row in found] == [wanted] * 3
    best = np.sort(scores, axis=1)[:, ::-1][:, :wanted]
    chosen = np.sort(np.take_along_axis(scores, found, 1), axis=1)[:, ::-1]
    # Scores that are equal to so many decimals count as equal, and the older node is taken.
    np.testing.assert_allclose(chosen, best, rtol=0, atol=10**-DECIMALS)


def test_of_scores_equal_to_four_decimals_the_older_node_is_taken() -> None:
    angles = np.array([0.3, 0.2, 0.2 - 1e-5, 0.2 + 1e-5, 0.1])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    nodes = Nodes(
        pyarrow.array(["x"] * 5), vectors, np.ones(5, np.float32), np.zeros(6, np.int64), np.zeros(0, np.int32)
    )
    found = matrix_search(np.array([[1, 0]], np.float32), nodes, 2)
    assert sorted(found[0].tolist()) == [1, 4]


def graph_of(rows: list[GraphRow]):  # type: ignore[no-untyped-def]
    builder = GraphBuilder()
    for row in rows:
        builder.add(row)
    return builder.finish(WordEmbedder())


ROWS = [GraphRow(str(i), (f"verb {i}", "walking a dog"), ("calm",), (f"place {i}",)) for i in range(40)]


def test_places_come_first_and_modifiers_are_theirs() -> None:
    graph = graph_of(ROWS)
    found = retrieve(graph, WordEmbedder().encode(["place 7"]), RetrievalSettings(2, 5, 2))[0]
    places = [item for item in found if item.kind == "place"]
    assert [item.phrase for item in places][0] == "place 7"
    assert places[0].score == 1.0
    verbs = [item.phrase for item in found if item.kind == "verb_object"]
    numbers = {item.phrase.split()[1] for item in places}
    assert len(verbs) == 2
    assert all(verb == "walking a dog" or verb.split()[1] in numbers for verb in verbs)
    assert [(item.phrase, item.count) for item in found if item.kind == "scenario"] == [("calm", 2)]


def test_a_prompt_finds_the_same_alone_and_among_others() -> None:
    graph, texts = graph_of(ROWS), [f"place {i} with verb {i + 1}" for i in range(30)]
    vectors = WordEmbedder().encode(texts)
    together = retrieve(graph, vectors)
    assert together == [retrieve(graph, vectors[i : i + 1])[0] for i in range(30)]
    assert together == retrieve(graph, vectors)


def test_a_hub_is_ranked_over_all_its_neighbours() -> None:
    names = [f"verb {i}" for i in range(_MANY * 3)]
    rows = [GraphRow(str(i), (name,), (), ("hub", f"place {i}")) for i, name in enumerate(names)]
    graph, rng = graph_of(rows), np.random.default_rng(0)
    nodes = graph.nodes["verb_object"]
    nodes.vectors[:] = rng.normal(size=nodes.vectors.shape)
    nodes.norms[:] = np.linalg.norm(nodes.vectors, axis=1)
    hub = graph.places.vectors[graph.find_place("hub")]
    prompts = (hub + 0.05 * rng.normal(size=(70, len(hub)))).astype(np.float32)
    prompts /= np.linalg.norm(prompts, axis=1, keepdims=True)
    settings_ = RetrievalSettings(1, 9, 9)
    together = retrieve(graph, prompts, settings_)
    assert together == [retrieve(graph, prompt[None], settings_)[0] for prompt in prompts]
    cosines = prompts @ nodes.vectors.T / nodes.norms
    for found, scores in zip(together, cosines, strict=True):
        assert found[0].phrase == "hub"
        assert [item.phrase for item in found[1:]] == [
            names[i] for i in np.argsort(-np.round(scores, 4), kind="stable")[:9]
        ]


def test_the_higher_count_decides_a_tie() -> None:
    rows = [GraphRow("1", ("left", "right"), (), ("home",)), GraphRow("2", ("right",), (), ("home",))]
    graph = graph_of(rows)
    # Both modifiers are equally far from a prompt that names neither.
    vectors = np.ones((1, 64), np.float32)
    graph.nodes["verb_object"].vectors[:] = vectors
    graph.nodes["verb_object"].norms[:] = 8.0
    verbs = [item for item in retrieve(graph, vectors)[0] if item.kind == "verb_object"]
    assert [(item.phrase, item.count) for item in verbs] == [("right", 2), ("left", 1)]


def test_bad_vectors_and_settings_are_named() -> None:
    graph = graph_of(ROWS)
    assert retrieve(graph, np.zeros((0, 64), np.float32)) == []
    with pytest.raises(GraphError, match=r"with 64 dimensions. Got an array of shape \(2, 32\)"):
        retrieve(graph, np.zeros((2, 32), np.float32))
    with pytest.raises(GraphError, match="Got 0, 5 and 5"):
        RetrievalSettings(place_num=0)
    # A prompt like nothing in the graph still finds something; thresholds are the caller's.
    assert all(np.isfinite(item.score) for item in retrieve(graph, np.zeros((1, 64), np.float32))[0])
