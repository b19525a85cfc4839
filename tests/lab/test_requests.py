from __future__ import annotations

import csv

import pytest

from rapo_lightning.lab.reading import read_caption
from rapo_lightning.lab.requests import MAX_WORDS, asked, refusal, wordings
from tests.helpers import ROOT

LAB = ROOT / "recipes/lab"


@pytest.mark.parametrize(
    ("name", "column"),
    [("prompts_train", "reference"), ("prompts_heldout", "reference"), ("examples", "caption")],
)
def test_all_prompts_of_the_lab_are_understood_as_their_scene_says(name: str, column: str) -> None:
    with (LAB / f"{name}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            scene = read_caption(row[column])
            assert scene is not None
            assert refusal(row["prompt"]) == "", row["prompt"]
            wanted = asked(row["prompt"])
            assert {"shape", "colour", "motion"} <= set(wanted), row["prompt"]
            assert wanted.items() <= scene.attributes.items(), row["prompt"]
            assert set(wordings(row["prompt"])) == set(wanted)
            assert all(words in row["prompt"] for words in wordings(row["prompt"]).values())


def test_captions_are_understood_to_the_last_word() -> None:
    for caption in (LAB / "captions_train.txt").read_text().splitlines()[::5]:
        scene = read_caption(caption)
        assert scene is not None
        assert refusal(caption) == "", caption
        assert asked(caption) == scene.attributes, caption


@pytest.mark.parametrize(
    ("request_text", "reason"),
    [
        ("", "It has no words."),
        ("?!", "It has no words."),
        ("a red ball " * 40, f"It has 120 words, and the lab reads {MAX_WORDS} at most."),
        ("no red ball", 'It says "no", and'),
        ("a red ball without moving", 'It says "without", and'),
        ("a ball other than red", 'It says "other", "than", which'),
        ("a ball but red", 'It says "but", which'),
        ("a red ball that isn't going up", 'It says "n\'t", and'),
        ("a red ball that doesn\u2019t move", "and the lab reads only what is to be seen."),
        ("a red ball never going up", 'It says "never", and'),
        ("not a red ball going up", 'It says "not", and'),
        ("a red ball is _not_ going up", 'It has the sign "_", and'),
        ("\U0001f6ab red ball", 'It has the sign "\U0001f6ab", and the lab reads only words.'),
        ("!red ball", 'It has the sign "!", and'),
        ("a red ball/blue ball", 'It has the sign "/", and'),
        ("a red ball to the left", 'It says "to the left" of a body that it does not say to move.'),
        ("a red ball going across to the R\u0130GHT", "which the lab does not know."),
        ("a red ball and one like it", 'It says "one", which'),
        ("someone and a red ball", 'It says "someone", which'),
        ("a silver ball", 'It says "silver", which the lab does not know.'),
        ("a dog jumping", 'It says "dog", "jumping", which the lab does not know.'),
        ("a red ball juggling", 'It says "juggling", which'),
        ("two red balls", 'It says "two", "balls", which'),
        ("2 red ball", 'It says "2", which'),
        ("a red ball up and down", 'It says "up", "down", which'),
        ("a red ball in a cave on the moon", 'It says "moon", which'),
        ("going up in a cave", "It names no body that the lab has."),
        ("a red ball, a blue box and a green cross", "It names 3 bodies, and"),
        ("a red ball and a blue box", "It names two bodies, and neither"),
        ("a red ball going up and a blue box", "It names two bodies, and neither"),
        ("a red ball hits", "It says what a body does to another, but names only one."),
        ("a red and blue ball", 'It says more than one colour of a body: "red", "blue".'),
        ("a red ball going up and orbiting", 'It says more than one motion: "going up", "orbiting".'),
        ("a red ball hits a box that is blue", 'It does not say what is "blue".'),
        ("a red ball going up to the right", 'It says "to the right" of what has no direction'),
    ],
)
def test_what_the_lab_does_not_understand_has_a_reason(request_text: str, reason: str) -> None:
    found = refusal(request_text)
    assert reason in found
    assert found.endswith(".")


@pytest.mark.parametrize(
    ("request_text", "wanted"),
    [
        ("a red ball that does nothing", {"motion": "rest", "shape": "ball", "colour": "red"}),
        ("The Crimson ball, NOT MOVING AT ALL!", {"motion": "rest", "shape": "ball", "colour": "red"}),
        ("the ball is small and red", {"shape": "ball", "colour": "red", "size": "small"}),
        ("a ball rolling to the left", {"motion": "roll", "shape": "ball", "direction": "right_to_left"}),
    ],
)
def test_prompts_typed_by_hand_are_understood(request_text: str, wanted: dict[str, str]) -> None:
    assert refusal(request_text) == ""
    assert asked(request_text) == wanted


def test_wordings_are_the_users_own() -> None:
    assert wordings("a lemon crate launched toward the right edge like a cannonball in a cave") == {
        "motion": "launched toward the right edge like a cannonball",
        "shape": "crate",
        "colour": "lemon",
        "background": "in a cave",
        "direction": "toward the right edge",
    }
    assert wordings("a red orb with a blue crate at its right")["motion"] == "at its right"
