from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rapo_lightning.errors import UserError
from rapo_lightning.models import ModelPool
from rapo_lightning.prompting.examples import Example, ExamplePool, read_examples
from rapo_lightning.prompting.text import shorten
from rapo_lightning.recipe import Stage2
from rapo_lightning.stage2.candidates import Proposal
from rapo_lightning.stage2.memory import History, history_of, known_problems
from rapo_lightning.stage2.rewrite import check_physics, rewrite, rewrite_messages
from rapo_lightning.stage2.strategy import BLIND, SEEDS, SSPO
from tests.data.test_trajectory import make_row
from tests.helpers import WordEmbedder


class Parrot:
    """A language model that answers from a list and remembers what it was asked."""

    name = "parrot"

    def __init__(self, answers: list[str]) -> None:
        self.answers, self.asked = answers, []  # type: ignore[var-annotated]

    def load(self) -> None: ...

    def to(self, device: object) -> None: ...

    def complete(self, conversations, seeds, sampling, count=1):  # type: ignore[no-untyped-def]
        self.asked += conversations
        return [self.answers[:count] for _ in conversations]


def lending(model: Parrot | None = None) -> ModelPool:
    return ModelPool(language=model, embedder=WordEmbedder(), device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("One two. Three four.", 10, "One two. Three four."),
        ("One two. Three four.", 3, "One two."),
        ("a b c d", 2, "a b"),
        ("A ball of 2.5 m falls down. It bounces.", 6, "A ball of 2.5 m falls"),
        ('He says "Stop!" and goes away then.', 5, 'He says "Stop!"'),
    ],
)
def test_long_rewrites_end_at_a_sentence(text: str, limit: int, expected: str) -> None:
    assert shorten(text, limit) == expected


def test_problems_are_collected_over_rounds_once() -> None:
    rounds = [
        make_row(round_=0, critique="A is wrong. B is wrong."),
        make_row(round_=1, critique="B is wrong. C is wrong."),
    ]
    assert known_problems(rounds) == "B is wrong. C is wrong. A is wrong."


def test_instruction_has_examples_memory_and_problem() -> None:
    rounds = [make_row(prompt="a ball"), make_row(round_=1, prompt="a red ball rolls", a=0.9)]
    history = history_of(rounds, Stage2(memory=1), Parrot([]))  # type: ignore[arg-type]
    history = history._replace(problem="It is too small.")
    messages = rewrite_messages("a ball", history, [Example("x", "bad", "a caption")])
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "Request: x" in messages[1]["content"]
    assert "a red ball rolls" in messages[-1]["content"]
    assert "Problem: It is too small." in messages[-1]["content"]
    assert history_of(rounds, Stage2(memory=0), Parrot([])) == History("", "")  # type: ignore[arg-type]


def test_rewrite_prefers_the_request_and_the_style_and_avoids_repeats() -> None:
    model = Parrot(["a ball 0", "zzz qqq", "The ball is\n red", ""])
    pool = ExamplePool([Example("ball", "bad", "the red ball is here")])
    rounds = [make_row(prompt="a ball 0", source_prompt="red ball")]
    assert rewrite([rounds], Stage2(candidates=4, style_weight=1.0), lending(model), pool) == [
        Proposal("The ball is red")
    ]


def test_empty_answers_keep_the_prompt() -> None:
    rounds = [make_row(prompt="a ball")]
    assert rewrite([rounds], Stage2(candidates=2), lending(Parrot(["", " "])), ExamplePool([])) == [Proposal("a ball")]


def test_physics_is_asked_only_where_there_is_a_law() -> None:
    model = Parrot(["It\nfalls."])
    rows = [make_row(phys_law="Things fall.", motion="It goes down."), make_row()]
    assert check_physics(rows, Stage2(), lending(model)) == ["It falls.", ""]
    assert "Law: Things fall.\n" in model.asked[0][-1]["content"]
    assert "Measured motion: It goes down.\n" in model.asked[0][-1]["content"]
    assert check_physics(rows, Stage2(physics="off"), lending(model)) == ["", ""]


def test_nearest_example_comes_last_and_style_counts_words() -> None:
    pool = ExamplePool([Example("blue cat", "", "a cat sits"), Example("red ball", "", "a ball rolls")])
    assert pool.nearest(["red ball bounces"], 2, WordEmbedder().encode)[0][-1].prompt == "red ball"
    assert pool.style("a ball flies") == pytest.approx(2 / 3)
    assert ExamplePool([]).style("anything") == 1.0


@pytest.mark.parametrize(
    ("content", "message"), [("prompt,caption\na,b\n", "need the columns"), ("prompt,critique,caption\n", "no row")]
)
def test_bad_examples_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "e.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_examples(str(path))


def test_without_a_style_weight_the_examples_words_do_not_win_over_the_users() -> None:
    answers = ["A golden retriever runs on the beach.", "A capybara plays the cello on a stage."]
    pool = ExamplePool([Example("dog", "", "A golden retriever runs on the beach.")])
    rounds = [make_row(prompt="x", source_prompt="a capybara plays the cello")]
    assert rewrite([rounds], Stage2(candidates=2), lending(Parrot(answers)), pool) == [Proposal(answers[1])]


def test_blind_rewrites_know_the_request_and_what_was_tried_and_nothing_else() -> None:
    model = Parrot(["a red ball", "a red ball rolls", "a red ball rolls fast"])
    stage2 = BLIND.settings(Stage2(candidates=3, memory=2, physics="rewrite"))
    history = [
        make_row(prompt="ball", source_prompt="ball", critique="It is blue.", phys_law="Balls roll."),
        make_row(round_=1, prompt="a red ball", source_prompt="ball", critique="It is green.", a=0.9),
    ]
    pool = ExamplePool(BLIND.examples([Example("x", "It is small.", "a caption")]))
    assert check_physics(BLIND.told(history), stage2, lending(model)) == ["", ""]
    ((text, _),) = rewrite([BLIND.told(history)], stage2, lending(model), pool)
    # A text that was tried would be the same video again.
    assert text in ("a red ball rolls", "a red ball rolls fast")
    shown = " ".join(message["content"] for message in model.asked[0])
    assert "Request: ball" in shown
    assert "a caption" in shown
    assert not [word for word in ("blue", "green", "small", "red ball", "0.9", "roll.") if word in shown]
    assert SSPO.told(history) == history
    assert SSPO.settings(Stage2()) == Stage2()


def test_rounds_share_a_seed_unless_only_seeds_differ() -> None:
    for strategy, count in ((SSPO, 1), (BLIND, 1), (SEEDS, 4)):
        assert len({strategy.seed(7, "id", number) for number in range(4)}) == count
        assert strategy.seed(7, "id", 0) == SSPO.seed(7, "id", 0)


def test_a_rewrite_without_any_score_is_not_remembered() -> None:
    rounds = [make_row(prompt="a ball"), make_row(round_=1, prompt="a red ball rolls", a=None)]
    rounds[1] |= {name: None for name in rounds[1] if name.startswith("score_")}
    assert history_of(rounds, Stage2(memory=1), Parrot([])).memory == ""  # type: ignore[arg-type]
