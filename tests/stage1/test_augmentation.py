from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from rapo_lightning.errors import UserError
from rapo_lightning.prompting.chat import Messages, Sampling
from rapo_lightning.recipe.files import load_recipe, recipe_path
from rapo_lightning.stage1.merge import join, keeps_both, merge
from rapo_lightning.stage1.modifiers import contradicts, read_groups, select
from relation_graph import Found


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
        ("one dog", "two dogs", True),
        ("a medium ball", "a small ball", True),
        ("rising slowly", "a leaf falling", False),
    ],
)
def test_contradictions_are_of_the_same_thing(modifier: str, request_: str, expected: bool) -> None:
    assert contradicts(modifier, request_, read_groups()) is expected


@pytest.mark.parametrize(
    ("modifier", "request_", "expected"),
    [
        ("rolling to the left", "a ball rolling to the right", True),
        ("rising slowly", "a balloon rising", False),
        ("rising slowly", "a leaf falling", True),
        ("a blue ball", "a red ball on a lawn", True),
    ],
)
def test_the_lab_names_its_motions_in_a_file_of_its_own(modifier: str, request_: str, expected: bool) -> None:
    groups = read_groups(load_recipe(recipe_path("lab")).stage1.exclusive)
    assert contradicts(modifier, request_, groups) is expected
    assert set(read_groups()) - set(groups) == {read_groups()[7]}, "all but the weather, which the lab has none of"


def test_groups_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "groups.txt"
    path.write_text("# ours\ncat | dog, hound\n")
    assert contradicts("a hound", "my cat", read_groups(str(path)))
    with pytest.raises(UserError, match=r"`stage1.exclusive` must name a text file. Got 'nowhere.txt'"):
        read_groups("nowhere.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 | bar\n")
    with pytest.raises(UserError, match="must name a text file in UTF-8. Got "):
        read_groups(str(tmp_path / "latin.txt"))


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


def test_modifiers_do_not_contradict_each_other() -> None:
    found = [
        Found("a street at night", "place", 0.7, 1),
        Found("a red umbrella", "verb_object", 0.65, 3),
        Found("a blue umbrella", "verb_object", 0.9, 3),
        Found("a blue sky at noon", "scenario", 0.75, 1),
    ]
    assert select(found, "a man", 0.6, read_groups()) == [
        "contradicts another modifier",
        "contradicts another modifier",
        "chosen",
        "chosen",
    ]


def test_a_modifier_said_in_another_form_is_a_duplicate() -> None:
    found = [Found("walks a dog", "verb_object", 0.9, 3), Found("a film crew", "verb_object", 0.8, 3)]
    assert select(found, "a crew walking dogs", 0.6, read_groups()) == ["duplicate", "chosen"]


def test_merges_go_step_by_step_and_a_lossy_one_is_joined() -> None:
    def answer(turn: str) -> str:
        prompt, detail = turn.removeprefix("Prompt: ").split("\nDetail: ")
        return "something else" if detail == "at dusk" else f"{prompt}\nand {detail}"

    model = Answering(answer)
    steps = merge(["a red ball.", "a cat", "a dog"], [["rolling away", "at dusk"], [], ["sleeping"]], model, Sampling())
    assert steps == [
        [("a red ball. and rolling away", "model"), ("a red ball. and rolling away, at dusk", "join")],
        [],
        [("a dog and sleeping", "model")],
    ]
    # Step i of all prompts is one call.
    assert [len(call) for call in model.calls] == [2, 1]
    assert join("a cat?", "asleep") == "a cat, asleep"


@pytest.mark.parametrize(
    ("answer", "prompt", "expected"),
    [
        ("a film crew by a lake in fog", "a film crew by a lake", True),
        ("a crew by a lake in fog", "a film crew by a lake", False),
        ("two people by a lake in fog", "two people in love by a lake", False),
        ("a man sitting by a lake in fog", "a man sits by the lake", True),
        ("a man standing by a lake in fog", "a man sits by the lake", False),
        ("a man by a lake in fog", "please, show me a video clip of a man by the lake", True),
        ("a man in a shop in fog", "video of a man in a video shop", False),
        ("a story in fog", "a love story", False),
        ("a man by a lake", "a man by the lake", False),
    ],
)
def test_a_merge_keeps_every_telling_word_in_whatever_form(answer: str, prompt: str, expected: bool) -> None:
    assert keeps_both(answer, prompt, "fog") is expected
