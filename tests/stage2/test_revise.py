from __future__ import annotations

from types import SimpleNamespace

import pytest

from rapo_lightning.data.ranking import Ranking
from rapo_lightning.prompting.revision import SEEN, TRIED
from rapo_lightning.recipe import Stage2
from rapo_lightning.stage2.candidates import Proposal
from rapo_lightning.stage2.memory import attempts_of
from rapo_lightning.stage2.revise import revise
from rapo_lightning.stage2.rewrite import rewrite_inputs
from rapo_lightning.stage2.strategy import BLIND
from tests.data.test_trajectory import make_row


class Rewriter:
    """Answers with the number of attempts it was shown, or with what it is told to."""

    def __init__(self, *answers: str, sampled: list[str] | None = None) -> None:
        self.given, self.sampled, self.turns = list(answers), sampled or [], []
        self.settings = SimpleNamespace(system="Rewrite.")
        self.model = SimpleNamespace(complete=lambda asked, *_: [self.sampled for _ in asked])

    def answers(self, turns: list[str]) -> list[str]:
        self.turns += turns
        return self.given


ROUNDS = [
    make_row(round_=0, a=0.2, critique="A red ball is seen."),
    make_row(round_=1, a=0.9, critique="A green ball is seen."),
    make_row(round_=2, a=0.5, critique="Nothing is seen."),
]


def test_attempts_are_shown_the_best_last_and_no_more_than_the_memory() -> None:
    rewriter = Rewriter("a new caption")
    assert revise([ROUNDS], Stage2(memory=2), rewriter) == [Proposal("a new caption")]  # type: ignore[arg-type]
    lines = rewriter.turns[0].split("\n")
    assert lines[0] == "a ball"
    assert lines[1:] == [
        f"{TRIED}ball 2", f"{SEEN}Nothing is seen.", f"{TRIED}ball 1", f"{SEEN}A green ball is seen.",
    ]  # fmt: skip


def test_without_memory_the_request_stands_alone() -> None:
    rewriter = Rewriter("a new caption")
    revise([ROUNDS], Stage2(memory=0), rewriter)  # type: ignore[arg-type]
    assert rewriter.turns == ["a ball"]


def test_the_request_comes_in_the_judges_words_where_the_recipe_says_so() -> None:
    said = [
        {**row, "restated": text} for row, text in zip(ROUNDS, ("a globe", "a round ball", "a round ball"), strict=True)
    ]
    for rounds, stage2, wanted in (
        (said, Stage2(memory=0, request="judge"), "a round ball"),
        (said, Stage2(memory=0), "a ball"),
        # Rows of before, and of judges that do not say it.
        (ROUNDS, Stage2(memory=0, request="judge"), "a ball"),
    ):
        rewriter = Rewriter("a new caption")
        revise([rounds], stage2, rewriter)  # type: ignore[arg-type]
        assert rewriter.turns == [wanted]
        assert rewrite_inputs(rounds, stage2)[0] == wanted
    assert BLIND.told(said)[0]["restated"] == ""


def test_what_was_tried_is_not_tried_again() -> None:
    rewriter = Rewriter("ball 1", sampled=["ball 0", "", "another"])
    assert revise([ROUNDS], Stage2(), rewriter) == [Proposal("another")]  # type: ignore[arg-type]


@pytest.mark.parametrize(("answer", "sampled", "wanted"), [("", ["", ""], "ball 2"), ("ball 1", ["ball 1"], "ball 1")])
def test_a_rewriter_without_anything_new_keeps_the_loop_going(answer: str, sampled: list[str], wanted: str) -> None:
    assert revise([ROUNDS], Stage2(), Rewriter(answer, sampled=sampled)) == [Proposal(wanted)]  # type: ignore[arg-type]


def test_a_round_behind_a_gate_is_worse_than_any_that_is_not() -> None:
    stage2 = Stage2(ranking=Ranking(gates={"b": 0.6}))
    rounds = [make_row(round_=0, a=0.1, b=0.7), make_row(round_=1, a=0.9, b=0.5)]
    first, second = attempts_of(rounds, stage2)
    assert first.score > second.score


def test_the_remark_on_physics_follows_the_critique_where_it_is_to_be_read() -> None:
    rounds = [make_row(critique="A ball is seen.", physics="It should fall faster.")]
    assert attempts_of(rounds, Stage2(physics="rewrite"))[0].critique == "A ball is seen. It should fall faster."
    assert attempts_of(rounds, Stage2(physics="log"))[0].critique == "A ball is seen."
