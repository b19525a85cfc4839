from __future__ import annotations

import numpy as np
import pytest
import torch

from rapo_lightning.recipe import Stage1
from rapo_lightning.stage1.branches import CARRIED, carry_over, unknown_words
from rapo_lightning.stage1.extract import parse_answer
from rapo_lightning.stage1.pairs import augment_pairs
from rapo_lightning.stage1.search import DeviceSearch
from relation_graph import GraphBuilder, GraphRow, matrix_search
from tests.helpers import WordEmbedder


def test_unknown_words_are_carried_over() -> None:
    vocabulary = frozenset({"ball", "rolling"})
    request = "could we have a lemon ball rolling, please"
    assert unknown_words(request, "A red ball rolls.", vocabulary) == ["lemon"]
    assert unknown_words(request, "A lemon ball rolls.", vocabulary) == []
    assert unknown_words(request, "A red ball rolls.", frozenset()) == []
    assert carry_over("A red ball.", request) == f"A red ball.{CARRIED}lemon ball rolling."
    assert carry_over("A red ball.", "show me") == "A red ball."


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('Sure: {"place": ["a park"], "verb_obj_word": ["running", ""], "scenario_word": "calm"} done',
         GraphRow("c", ("running",), ("calm",), ("a park",))),
        ('{"place": []}', None),
        ("no idea", None),
        ('{"place": ["a', None),
        ("[1]", None),
    ],
)  # fmt: skip
def test_extraction_answers_are_read_or_missing(answer: str, expected: GraphRow | None) -> None:
    assert parse_answer("c", answer) == expected


def test_pairs_are_augmented_by_what_retrieval_finds() -> None:
    builder = GraphBuilder()
    builder.add(GraphRow("1", ("a red ball rolling fast",), (), ("a green lawn",)))
    graph = builder.finish(WordEmbedder())
    stage1 = Stage1(threshold=0.5)
    pairs = augment_pairs([("a red ball rolling", "C"), ("nothing of it", "D")], graph, WordEmbedder(), stage1)
    assert pairs == [("a red ball rolling, a red ball rolling fast", "C"), ("nothing of it", "D")]


def test_products_on_the_device_find_what_the_matrix_search_finds() -> None:
    builder = GraphBuilder()
    for i in range(9):
        builder.add(GraphRow("1", (), (), (f"place {i}",)))
    nodes = builder.finish(WordEmbedder()).places
    queries = WordEmbedder().encode(["place 3", "place 8"])
    found = DeviceSearch(torch.device("cpu")).on_device(queries, nodes, 4)
    expected = matrix_search(queries, nodes, 4)
    assert [number for number, *_ in found.tolist()] == [3, 8]
    scores = queries @ nodes.vectors.T
    for row, ours, theirs in zip(scores, found, expected, strict=True):
        np.testing.assert_allclose(np.sort(row[ours]), np.sort(row[theirs]), atol=1e-6)
