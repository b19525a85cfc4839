"""Which answer becomes the next prompt: faithful to the request, and within the limit of words by a second try or a cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.models import ModelPool, SentenceEmbedder
from rapo_lightning.models.usage import Call, metered, note
from rapo_lightning.prompting.examples import ExamplePool
from rapo_lightning.recipe import Stage2
from rapo_lightning.stage2.candidates import Proposal
from rapo_lightning.stage2.revise import revise
from rapo_lightning.stage2.rewrite import rewrite
from tests.data.test_trajectory import make_row
from tests.helpers import Silent, WordEmbedder, tiny_recipe
from tests.stage2.test_revise import Rewriter
from tests.test_pipeline import ALLOW

ROUNDS = [make_row(prompt="a ball", critique="It is blue.")]
LONG = "A red ball falls. It bounces. Then it rolls on."


class Trying(Silent):
    """Answers from one list at the first try and from another when asked to be shorter."""

    def __init__(self, first: list[str], second: list[str]) -> None:
        self.first, self.second, self.asked = first, second, []  # type: ignore[var-annotated]

    def complete(
        self, conversations: Sequence[Any], seeds: Sequence[int], sampling: object, count: int = 1
    ) -> list[list[str]]:
        self.asked.append(list(zip(conversations, seeds, strict=True)))
        note([Call(item, 1, 1, 0.1) for item in range(len(conversations))])
        again = "Say it again" in conversations[0][-1]["content"]
        return [(self.second if again else self.first)[:count] for _ in conversations]


class Wordy(Silent):
    """Never keeps a limit of words."""

    def complete(
        self, conversations: Sequence[Any], seeds: Sequence[int], sampling: object, count: int = 1
    ) -> list[list[str]]:
        return [[f"A ball falls {seed % 97}. It goes on and on." for _ in range(count)] for seed in seeds]


def proposed(model: Trying, rounds: Sequence[Any] = ROUNDS, **settings: Any) -> Proposal:
    pool = ModelPool(language=model, embedder=WordEmbedder(), device=torch.device("cpu"))
    (found,) = rewrite([rounds], Stage2(max_words=6, **settings), pool, ExamplePool([]))
    return found


def test_a_candidate_that_parrots_the_critique_loses() -> None:
    critique = "The picture shows a blue square and it stands still. The red ball is missing."
    rounds = [make_row(prompt="x", source_prompt="a red ball falls to the ground", critique=critique)]
    answers = ["A blue square stands still, the red ball is missing.", "A red ball falls down onto the ground."]
    for embedder in (WordEmbedder(), SentenceEmbedder("all-minilm-l6-v2")):
        for order in (answers, answers[::-1]):
            pool = ModelPool(language=Trying(order, []), embedder=embedder, device=torch.device("cpu"))
            assert rewrite([rounds], Stage2(candidates=2), pool, ExamplePool([])) == [Proposal(answers[1])]


def test_a_long_answer_is_asked_for_again_once_and_then_cut() -> None:
    model = Trying([LONG], ["A red ball falls."])
    assert proposed(model) == Proposal("A red ball falls.", "again")
    (first, seed), (turns, other) = model.asked[0][0], model.asked[1][0]
    assert turns[:-2] == first
    assert [turn["content"] for turn in turns[-2:]] == [LONG, "That has 10 words. Say it again in at most 6 words."]
    assert seed != other
    model = Trying([LONG], [LONG])
    assert proposed(model) == Proposal("A red ball falls. It bounces.", "cut")
    assert len(model.asked) == 2
    # A second answer that says nothing, as one of a server that failed, or repeats what was tried.
    for second in ("", "a ball"):
        assert proposed(Trying([LONG], [second])) == Proposal("A red ball falls. It bounces.", "cut")


def test_there_is_no_second_try_where_an_answer_keeps_the_limit() -> None:
    model = Trying([LONG, "A green ball."], ["A red ball falls."])
    assert proposed(model, candidates=2) == Proposal("A green ball.")
    assert len(model.asked) == 1
    model = Trying(["", " "], ["A red ball falls."])
    assert proposed(model, candidates=2) == Proposal("a ball")
    assert len(model.asked) == 1


def test_calls_of_a_second_try_belong_to_their_prompt() -> None:
    class Second(Trying):
        def complete(self, conversations: Sequence[Any], *rest: Any) -> list[list[str]]:
            found = super().complete(conversations, *rest)
            return [["A red ball."], *found[1:]] if len(found) > 1 else found

    pool = ModelPool(language=Second([LONG], [LONG]), embedder=WordEmbedder(), device=torch.device("cpu"))
    with metered() as calls:
        found = rewrite([ROUNDS, ROUNDS], Stage2(max_words=6), pool, ExamplePool([]))
    assert [item.shortened for item in found] == ["", "cut"]
    assert [call.item for call in calls] == [0, 1, 1]


def test_a_fine_tuned_rewriter_is_asked_again_too() -> None:
    stage2 = Stage2(max_words=6)

    def revised(answer: str, *sampled: str) -> Proposal:
        rewriter = Rewriter(answer, sampled=list(sampled))
        (found,) = revise([ROUNDS], stage2, rewriter)  # type: ignore[arg-type]
        return found

    assert revised(LONG, "A red ball falls.") == Proposal("A red ball falls.", "again")
    assert revised(LONG, "", LONG) == Proposal("A red ball falls. It bounces.", "cut")
    # Asked again for another reason.
    assert revised("a ball", "A red ball falls.") == Proposal("A red ball falls.")
    assert revised("a ball", LONG) == Proposal("A red ball falls. It bounces.", "cut")


def test_rows_and_records_say_how_a_prompt_was_shortened(tmp_path: Path, language_model: Path) -> None:
    recipe = tiny_recipe(tmp_path, language_model, limit=1, stage2__max_words=5)
    fields = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**fields, "language_model": {"class_path": f"{__name__}.Wordy"}}))
    run = tmp_path / "run"
    assert main(["collect", str(recipe), "--out", str(run), "--stage2.rounds", "2", *ALLOW]) == 0
    first, last = read_rows(run / "trajectories")
    assert first["next_prompt"] == last["prompt"]
    assert len(last["prompt"].split()) == 4
    assert (first["shortened"], last["shortened"]) == ("cut", "")
    (record,) = map(json.loads, (run / "records/rewrites.0.jsonl").read_text().splitlines())
    assert record["shortened"] == "cut"
    assert main(["report", str(run)]) == 0
    assert "<b>next prompt shortened</b> cut" in (run / "report/index.html").read_text()
