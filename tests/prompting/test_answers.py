from __future__ import annotations

import pytest

from rapo_lightning.prompting.answers import REASONS, Refined, read_answer
from rapo_lightning.prompting.repetition import repeated_share, repeats

PROMPT = "a red ball and a blue ball"
GOOD = [
    "A red ball rolls to the left on a plain floor while a blue ball rolls to the right on a plain floor.",
    "A red ball rolls slowly across the floor. A blue ball rolls slowly across the floor. A green ball stays.",
    "Here a red ball rolls over sand, very, very slowly.",
    "A ball bounces up and down, up and down, and the camera moves round and round.",
    "Row, row, row your boat, sings a child in a boat.",
    "3 balls, one red and 2.5 m wide, roll down a hill.",
    'A neon sign reads "I cannot" above a door.',
    "Sure-footed goats climb a cliff - slowly.",
    "I, Robot style city at night.",
    "The answer is written on a wall: 42.",
    "A woman asks where the station is, and a man points to the left.",
    "Okra and tomatoes fall into a pan.",
    "红色的球在地板上滚动，蓝色的球停下来。",
    "A prompt response by firefighters at a burning house.",
]
ANSWERS = [
    "Sure, here is a refined prompt: a red ball rolls.",
    "Sure! A red ball rolls over the floor.",
    "Certainly. A red ball rolls.",
    "Here's the rewritten prompt for your video: a red ball rolls.",
    "Here are three versions of your caption: a red ball",
    "I'm sorry, but I can't help with that.",
    "I cannot create videos of balls.",
    "I can’t do that.",
    "As an AI language model, I have no eyes.",
    "Unfortunately, this is not possible.",
    "I'd be happy to help with a red ball.",
    "Let me rewrite this: a red ball",
    "Refined prompt: a red ball rolls.",
    "**Prompt:** a red ball rolls.",
    "1. A red ball rolls.\n2. A blue ball rolls.",
    "Two ideas:\n- a red ball\n- a blue ball",
    "1) a red ball",
    "# A red ball\nIt rolls.",
    "What kind of ball would you like to see?",
    "Is the ball red or blue?",
]
LOOPS = [
    "A red ball rolls. " * 5,
    "A red ball rolls over the floor and " + "then it rolls and " * 6 + "then it",
    "a ball, " * 8,
    "very " * 12,
    "ha" * 30,
    "A ball!" + "!" * 40,
    "红球滚动" * 6,
    "The ball is red and round. " * 4 + "And that is all there is to see of it.",
    "a cat and a dog and a cat and a cow and " * 4,
]


@pytest.mark.parametrize("answer", GOOD)
def test_a_prompt_is_taken_as_it_is(answer: str) -> None:
    assert read_answer(PROMPT, answer) == Refined(PROMPT, answer)
    assert not read_answer(PROMPT, answer).fell_back


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_is_no_rewrite_leaves_the_prompt(answer: str) -> None:
    assert read_answer(PROMPT, answer) == Refined(PROMPT, PROMPT, "answer")
    assert read_answer(PROMPT, answer.upper()).reason == "answer"


@pytest.mark.parametrize("answer", LOOPS)
def test_an_answer_in_a_loop_leaves_the_prompt(answer: str) -> None:
    assert read_answer(PROMPT, answer) == Refined(PROMPT, PROMPT, "repeats")


@pytest.mark.parametrize("answer", ["", " \n ", "...", "<think>it is red</think>", "-"])
def test_an_answer_without_a_word_is_empty(answer: str) -> None:
    assert read_answer(PROMPT, answer) == Refined(PROMPT, PROMPT, "empty")


@pytest.mark.parametrize(
    "answer",
    [
        "<think>The user wants balls.\n1. red</think>\n\nA red ball\nrolls.",
        "The user wants balls.</think>A red ball rolls.",
        "<thinking>hm</thinking> <Think>and hm</Think> A red ball rolls.",
    ],
)
def test_what_follows_a_thought_is_the_answer(answer: str) -> None:
    assert read_answer(PROMPT, answer) == Refined(PROMPT, "A red ball rolls.")


@pytest.mark.parametrize(
    "answer", ["<think>The user wants balls.", "A red ball. <think>or two", "<think>a</think> b <think>c"]
)
def test_a_thought_without_end_leaves_the_prompt(answer: str) -> None:
    assert read_answer(PROMPT, answer) == Refined(PROMPT, PROMPT, "thinking")


def test_a_long_answer_is_cut_at_a_sentence_and_says_so() -> None:
    answer = "A red ball rolls slowly. " + " ".join(f"word{number}" for number in range(8)) + "."
    assert read_answer(PROMPT, answer, 12) == Refined(PROMPT, "A red ball rolls slowly.", "cut")
    assert read_answer(PROMPT, answer, 13) == Refined(PROMPT, answer)
    assert not read_answer(PROMPT, answer, 12).fell_back
    assert read_answer(PROMPT, " ".join(f"word{number}" for number in range(200))).refined.split()[-1] == "word119"


def test_a_question_of_the_user_may_be_rewritten_as_one() -> None:
    asked = 'a door with the sign "who is there?"'
    assert read_answer(asked, "A wooden door with a sign: who is there?").reason == ""
    assert read_answer(asked, "What do you want on the sign?").reason == "answer"


def test_the_users_prompt_comes_back_as_it_came() -> None:
    assert read_answer("  two\nlines ", "").refined == "  two\nlines "


def test_every_reason_has_words() -> None:
    assert set(REASONS) == {"", "cut", "empty", "thinking", "answer", "repeats", "unfaithful"}
    assert all(REASONS.values())


def test_a_share_of_repeated_phrases_needs_some_phrases() -> None:
    assert repeated_share(["a", "b", "c", "d", "e", "a", "b", "c", "d"]) == 0
    assert repeated_share(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o"]) == 0
    assert repeated_share(("a b c d e " * 4).split()) == pytest.approx(1 - 5 / 17)
    assert not repeats("A red ball falls. A red ball falls.")
