"""A graph of two captions, embedded by the tests' word embedder."""

from __future__ import annotations

from pathlib import Path

import pytest

from relation_graph import build_graph, save_graph
from tests.helpers import WordEmbedder


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(
        "Input,verb_obj_word,scenario_word,place\n"
        "1,\"['rolling along the ground', 'a tangerine ball']\",\"['the motion is smooth']\",\"['in a dungeon']\"\n"
        "2,\"['going round and round in circles']\",[''],in the dark\n"
    )
    save_graph(build_graph([path], WordEmbedder())[0], tmp_path / "graph")
    return tmp_path / "graph"
