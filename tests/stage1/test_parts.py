from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from rapo_lightning.errors import UserError
from rapo_lightning.prompting.chat import Messages, Sampling
from rapo_lightning.recipe import Stage1
from rapo_lightning.stage1.branches import CARRIED, carry_over, unknown_words
from rapo_lightning.stage1.discriminator import (
    Discriminator,
    Shape,
    choose_branch,
    features,
    load_discriminator,
    plain_features,
)
from rapo_lightning.stage1.extract import parse_answer
from rapo_lightning.stage1.merge import join, merge
from rapo_lightning.stage1.modifiers import contradicts, read_groups, select
from rapo_lightning.stage1.pairs import augment_pairs
from rapo_lightning.stage1.search import DeviceSearch
from relation_graph import Found, GraphBuilder, GraphRow, matrix_search
from tests.helpers import WordEmbedder


class Answering:
    """A language model that answers by a function of the last turn, and counts its calls."""

    name = "answering"

    def __init__(self, answer) -> None:  # type: ignore[no-untyped-def]
        self.answer, self.calls = answer, []

    def load(self) -> None:
        pass

    def to(self, device: torch.device) -> None:
        pass

    def complete(self, conversations: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, count: int = 1):  # type: ignore[no-untyped-def]
        self.calls.append([conversation[-1]["content"] for conversation in conversations])
        return [[self.answer(conversation[-1]["content"])] * count for conversation in conversations]


@pytest.mark.parametrize(
    ("modifier", "request_", "expected"),
    [
        ("a blue ball", "a red ball on a lawn", True),
        ("a blue sky", "a red ball on a lawn", False),
        ("a small red ball", "a red ball", False),
        ("under a night sky", "a street at noon", True),
        ("two dogs", "three dogs in a park", True),
        ("two dogs", "three cats in a park", False),
        ("rolling to the left", "a ball rolling to the right", True),
        ("rising slowly", "a balloon rising", False),
        ("rising slowly", "a leaf falling", True),
    ],
)
def test_contradictions_are_of_the_same_thing(modifier: str, request_: str, expected: bool) -> None:
    assert contradicts(modifier, request_, read_groups()) is expected


def test_groups_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "groups.txt"
    path.write_text("# ours\ncat | dog, hound\n")
    assert contradicts("a hound", "my cat", read_groups(str(path)))
    with pytest.raises(UserError, match=r"`stage1.exclusive` must name a text file. Got 'nowhere.txt'"):
        read_groups("nowhere.txt")


def test_every_phrase_gets_an_outcome() -> None:
    found = [
        Found("a park at night", "place", 0.7, 1),
        Found("a street", "place", 0.65, 1),
        Found("walking a dog", "verb_object", 0.9, 3),
        Found("a dog walking", "verb_object", 0.8, 3),
        Found("bright sun at noon", "scenario", 0.75, 1),
        Found("calm", "scenario", 0.2, 1),
    ]
    assert select(found, "a man in a park at noon", 0.6, read_groups()) == [
        "contradicts the request",
        "not the best place",
        "chosen",
        "duplicate",
        "chosen",
        "below threshold",
    ]
    assert select([], "a man", 0.6, read_groups()) == []


def test_merges_go_step_by_step_and_a_lossy_one_is_joined() -> None:
    def answer(turn: str) -> str:
        prompt, detail = turn.removeprefix("Prompt: ").split("\nDetail: ")
        return "something else" if detail == "at dusk" else f"{prompt}\nand {detail}"

    model = Answering(answer)
    steps = merge(["a red ball.", "a cat", "a dog"], [["rolling away", "at dusk"], [], ["sleeping"]], model, Sampling())
    assert steps == [
        ["a red ball. and rolling away", "a red ball. and rolling away, at dusk"],
        [],
        ["a dog and sleeping"],
    ]
    # Step i of all prompts is one call.
    assert [len(call) for call in model.calls] == [2, 1]
    assert join("a cat?", "asleep") == "a cat, asleep"


def test_unknown_words_are_carried_over() -> None:
    vocabulary = frozenset({"ball", "rolling"})
    request = "could we have a lemon ball rolling, please"
    assert unknown_words(request, "A red ball rolls.", vocabulary) == ["lemon"]
    assert unknown_words(request, "A lemon ball rolls.", vocabulary) == []
    assert unknown_words(request, "A red ball rolls.", frozenset()) == []
    assert carry_over("A red ball.", request) == f"A red ball.{CARRIED}lemon ball rolling."
    assert carry_over("A red ball.", "show me") == "A red ball."


def test_a_discriminator_learns_saves_and_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    embedder, texts = WordEmbedder(), ["a dull thing", "a bright thing"] * 50
    vectors = embedder.encode(texts)
    inputs = features(vectors, vectors, [plain_features(text, text, "original") for text in texts])
    truth = torch.tensor([0.0, 1.0] * 50)
    model = Discriminator(Shape("words", 64, error=0.1))
    optimizer = model.configure_optimizers()
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(torch.from_numpy(inputs)), truth).backward()
        optimizer.step()
    predicted = model.predict(inputs)
    assert predicted[1] - predicted[0] > 0.5
    model.save(tmp_path / "d")
    loaded = load_discriminator(str(tmp_path / "d"), "words")
    np.testing.assert_array_equal(loaded.predict(inputs), predicted)
    assert loaded.shape.error == 0.1
    with pytest.raises(UserError, match="vectors of 'words'. Got the embedder 'other'"):
        load_discriminator(str(tmp_path / "d"), "other")
    with pytest.raises(UserError, match=r"must name a folder with discriminator.yaml .* Got 'nowhere'"):
        load_discriminator("nowhere", "words")


def test_a_lead_within_the_margin_is_none() -> None:
    assert choose_branch({"refactored": 0.5, "instructed": 0.59, "original": 0.4}, 0.1) == "refactored"
    assert choose_branch({"refactored": 0.5, "instructed": 0.7, "original": 0.75}, 0.1) == "instructed"
    assert choose_branch({"original": 0.1}, 0.1) == "original"


def test_plain_features_tell_branch_and_kept_words() -> None:
    assert plain_features("a red ball", "A red cube", "instructed")[:4] == [0.0, 1.0, 0.0, 0.5]


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


def test_the_device_search_is_the_matrix_search_on_a_cpu() -> None:
    builder = GraphBuilder()
    for i in range(9):
        builder.add(GraphRow("1", (), (), (f"place {i}",)))
    nodes = builder.finish(WordEmbedder()).places
    queries = WordEmbedder().encode(["place 3", "place 8"])
    found = DeviceSearch(torch.device("cpu"))(queries, nodes, 4)
    np.testing.assert_array_equal(found, matrix_search(queries, nodes, 4))
