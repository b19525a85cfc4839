from __future__ import annotations

import json
from pathlib import Path

import networkx
import numpy as np
import pytest

from relation_graph import GraphError, load_graph, save_graph
from relation_graph.published import export_published, import_published
from tests.relation_graph.test_graph import ROWS, make_graph, same


def published(folder: Path) -> Path:
    """A small graph in the published format, with a phrase that is place and verb, written by hand."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    words = {
        "place": ["standing in a parking lot", "a forest"],
        "verb": ["talking to each other", "standing in a parking lot", "a forest"],
        "scenario": ["a friendly conversation"],
    }
    sentences = {
        "place": {"standing in a parking lot": [0, 2], "a forest": [1]},
        "verb": {"talking to each other": [0, 1, 2], "standing in a parking lot": [0, 0], "a forest": [0]},
        "scenario": {"a friendly conversation": [0, 2]},
    }
    files: dict[str, object] = {"data_info": {"valid_sentence": 3, "p_idx": 2, "s_idx": 1, "v_idx": 3}}
    for name, phrases in words.items():
        files[f"{name}_to_idx"] = {phrase: number for number, phrase in enumerate(phrases)}
        files[f"{name}_in_sentence"] = sentences[name]
        files["place_embed" if name == "place" else f"{name}_words_embed"] = (
            rng.normal(size=(len(phrases), 4)).astype(np.float32).tolist()
        )
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value, indent=4))
    verbs, scenes = networkx.Graph(), networkx.Graph()
    verbs.add_edges_from(
        [
            ("standing in a parking lot", "talking to each other"),
            ("standing in a parking lot", "standing in a parking lot"),
            ("a forest", "talking to each other"),
            ("a forest", "standing in a parking lot"),
        ]
    )
    scenes.add_edge("standing in a parking lot", "a friendly conversation")
    networkx.write_graphml(verbs, folder / "graph_place_verb.graphml")
    networkx.write_graphml(scenes, folder / "graph_place_scene.graphml")
    return folder


def test_import_counts_what_captions_share(tmp_path: Path) -> None:
    graph = import_published(published(tmp_path / "p"), "all-minilm-l6-v2")
    assert graph.captions == 3
    found = {(phrase, count) for _, phrase, count in graph.neighbours(0)}
    # "a forest" is a modifier of the parking lot by caption 0; the other way round they share no caption.
    assert found == {
        ("talking to each other", 2),
        ("standing in a parking lot", 1),
        ("a forest", 1),
        ("a friendly conversation", 2),
    }
    assert {phrase for _, phrase, _ in graph.neighbours(1)} == {"talking to each other"}


def test_import_export_import_is_unchanged(tmp_path: Path) -> None:
    first = import_published(published(tmp_path / "p"), "all-minilm-l6-v2")
    save_graph(first, tmp_path / "g")
    export_published(load_graph(tmp_path / "g"), tmp_path / "q")
    second = import_published(tmp_path / "q", "all-minilm-l6-v2")
    assert same(first, second)
    for name in (
        "verb_to_idx",
        "place_in_sentence",
        "verb_in_sentence",
        "scenario_words_embed",
        "place_embed",
        "data_info",
    ):
        one, other = (json.loads((tmp_path / folder / f"{name}.json").read_text()) for folder in "pq")
        assert one == other, name


def test_a_graph_of_ours_survives_too(tmp_path: Path) -> None:
    graph = make_graph(ROWS)
    export_published(graph, tmp_path / "q")
    assert same(graph, import_published(tmp_path / "q", "words"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("place_embed.json", None, "lacks it"),
        ("place_embed.json", "[[1.0]]", "one vector per phrase. Got 1 for 2"),
        ("verb_to_idx.json", '{"a": 1}', "without gaps"),
        ("verb_to_idx.json", "{", "must be JSON"),
        ("graph_place_verb.graphml", "<x>", "must be GraphML"),
        ("graph_place_scene.graphml", None, "graph_place_scene.graphml among others"),
    ],
)
def test_faults_of_published_files_are_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    folder = published(tmp_path / "p")
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    with pytest.raises(GraphError, match=message):
        import_published(folder, "all-minilm-l6-v2")
