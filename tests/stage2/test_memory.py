"""What the rewriter is shown of earlier rounds: from the best, the last, or the request alone, within a budget of tokens."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.models import ModelPool, TransformersLanguageModel, count_tokens
from rapo_lightning.prompting.examples import ExamplePool
from rapo_lightning.prompting.revision import SEEN, TRIED, attempt_lines
from rapo_lightning.recipe import Stage2
from rapo_lightning.recipe.files import load_recipe
from rapo_lightning.recipe.identity import rewrite_settings, row_hash
from rapo_lightning.stage2.memory import history_of, shown_attempts
from rapo_lightning.stage2.rewrite import rewrite
from tests.data.test_trajectory import make_row
from tests.helpers import Silent, WordEmbedder, tiny_language_model, tiny_recipe
from tests.test_pipeline import ALLOW

ROUNDS = [
    make_row(round_=0, prompt="a ball", a=0.2, critique="It is small."),
    make_row(round_=1, a=0.9, critique="It is green."),
    make_row(round_=2, a=0.7, critique="It is still. It is small."),
    make_row(round_=3, a=0.5, critique="It is square.", physics="It should fall."),
]


@pytest.fixture(scope="module")
def model(language_model: Path) -> TransformersLanguageModel:
    return TransformersLanguageModel(str(language_model), dtype="float32")


def told(stage2: Stage2, model: Any) -> tuple[list[str], str]:
    """Rounds whose rewrite is shown, and the problem."""
    history = history_of(ROUNDS, stage2, model)
    return [line.split(": ")[1] for line in history.memory.splitlines()], history.problem


@pytest.mark.parametrize(
    ("origin", "memory", "lines", "problem"),
    [
        ("best", 2, ["ball 1", "ball 2"], "It is square. It is still. It is small. It is green."),
        ("best", 0, [], "It is square. It is still. It is small. It is green."),
        ("last", 2, ["ball 3", "ball 2"], "It is square. It is still. It is small."),
        ("last", 0, [], "It is square."),
        ("original", 2, [], "It is square."),
    ],
)
def test_history_is_of_the_best_the_last_or_none(origin: Any, memory: int, lines: list[str], problem: str) -> None:
    expected = (lines, f"{problem} It should fall.")
    assert told(Stage2(memory=memory, memory_from=origin), None) == expected


def prompts_of(stage2: Stage2, model: Any) -> list[str]:
    return [attempt.prompt for attempt in shown_attempts(ROUNDS, stage2, model)]


def test_a_fine_tuned_rewriter_reads_the_best_or_the_newest_last() -> None:
    assert prompts_of(Stage2(memory=2), None) == ["ball 2", "ball 1"]
    assert prompts_of(Stage2(memory=2, memory_from="last"), None) == ["ball 2", "ball 3"]
    assert prompts_of(Stage2(memory=0, memory_from="last"), None) == []
    seen = shown_attempts(ROUNDS, Stage2(memory=2, memory_from="original"), None)  # type: ignore[arg-type]
    assert attempt_lines(seen) == [f"{SEEN}It is square. It should fall."]


def test_worst_rounds_are_dropped_first_until_the_history_fits(model: TransformersLanguageModel) -> None:
    everything = Stage2(memory=4)
    tokens = count_tokens(model, "".join(history_of(ROUNDS, everything, model)))
    assert tokens == len(model.tokenizer("".join(history_of(ROUNDS, everything, model)))["input_ids"])
    kept = []
    for budget in range(tokens, 0, -1):
        stage2 = Stage2(memory=4, memory_tokens=budget)
        history = history_of(ROUNDS, stage2, model)
        kept.append(told(stage2, model))
        assert count_tokens(model, "".join(history)) <= budget or kept[-1] == ([], "It is square. It should fall.")
    assert list(dict.fromkeys((tuple(lines), problem) for lines, problem in kept)) == [
        (("ball 1", "ball 2", "ball 3"), "It is square. It is still. It is small. It is green. It should fall."),
        (("ball 1", "ball 2"), "It is square. It is still. It is small. It is green. It should fall."),
        (("ball 1",), "It is square. It is green. It should fall."),
        # What was seen last is the problem at hand.
        ((), "It is square. It should fall."),
    ]


def test_oldest_attempts_are_dropped_first_where_the_last_count(model: TransformersLanguageModel) -> None:
    newest = Stage2(memory=4, memory_from="last")
    whole = count_tokens(model, "\n".join(attempt_lines(shown_attempts(ROUNDS, newest, model))))
    assert prompts_of(dataclasses.replace(newest, memory_tokens=whole), model) == [
        "a ball",
        "ball 1",
        "ball 2",
        "ball 3",
    ]
    assert prompts_of(dataclasses.replace(newest, memory_tokens=whole - 1), model) == ["ball 1", "ball 2", "ball 3"]
    assert prompts_of(dataclasses.replace(newest, memory_tokens=1), model) == ["ball 3"]
    assert prompts_of(Stage2(memory=4, memory_tokens=1), model) == ["ball 1"]
    assert prompts_of(Stage2(memory=0, memory_tokens=1), model) == []


def test_of_equal_attempts_the_oldest_are_dropped(model: TransformersLanguageModel) -> None:
    rounds = [make_row(round_=number, critique="A ball is seen.") for number in range(3)]
    one = count_tokens(model, "\n".join([f"{TRIED}ball 2", f"{SEEN}A ball is seen."]))
    shown = shown_attempts(rounds, Stage2(memory=3, memory_tokens=one), model)
    assert [attempt.prompt for attempt in shown] == ["ball 2"]


def test_tokens_are_estimated_where_a_model_cannot_count(model: TransformersLanguageModel) -> None:
    pool = ModelPool(language=Silent(), device=torch.device("cpu"))
    assert count_tokens(pool.lend_language(), "a red ball") == 4
    assert count_tokens(pool.lend_language(), "红色的球") == 4
    lent = ModelPool(language=model, device=torch.device("cpu")).lend_language()
    assert count_tokens(lent, "a red ball") == len(model.tokenizer("a red ball")["input_ids"])


def test_the_conversation_has_the_history_that_was_chosen() -> None:
    asked: list[Any] = []

    class Listening(Silent):
        def complete(self, conversations: Any, *rest: Any) -> list[list[str]]:
            asked.extend(conversations)
            return super().complete(conversations, *rest)

    pool = ModelPool(language=Listening(), embedder=WordEmbedder(), device=torch.device("cpu"))
    for origin, absent in (("best", "nothing"), ("original", "green")):
        rewrite([ROUNDS], Stage2(memory=1, memory_from=origin), pool, ExamplePool([]))  # type: ignore[arg-type]
        text = asked[-1][-1]["content"]
        assert "Request: a ball" in text
        assert "It is square. " in text
        assert absent not in text
        assert ("ball 1" in text) == (origin == "best")


def test_what_is_shown_decides_a_rewrite_and_the_default_is_that_of_before(
    tmp_path: Path, language_model: Path
) -> None:
    plain = load_recipe(tiny_recipe(tmp_path, language_model))
    assert not {"memory_from", "memory_tokens", "request"} & set(rewrite_settings(plain)["stage2"])
    hashes = {row_hash(plain)}
    for change in ({"memory_from": "last"}, {"memory_from": "original"}, {"memory_tokens": 50}, {"request": "judge"}):
        other = dataclasses.replace(plain, stage2=dataclasses.replace(plain.stage2, **change))  # type: ignore[arg-type]
        hashes.add(row_hash(other))
    assert len(hashes) == 5


@pytest.mark.parametrize("options", [("--stage2.memory_tokens", "-1"), ("--stage2.memory_from", "worst")])
def test_no_such_memory_is_one_sentence(
    tmp_path: Path, language_model: Path, options: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, language_model)
    assert main(["collect", str(recipe), "--out", str(tmp_path / "run"), *options, *ALLOW]) == 2
    assert options[0].split(".")[1] in capsys.readouterr().err


def test_a_loop_runs_from_the_last_rounds_within_a_budget(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, tiny_language_model(tmp_path / "model"), limit=1)
    options = ["--stage2.memory", "3", "--stage2.memory_from", "last", "--stage2.memory_tokens", "20"]
    assert main(["collect", str(recipe), "--out", str(tmp_path / "run"), *options, *ALLOW]) == 0
    rows = read_rows(tmp_path / "run/trajectories")
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert all(row["next_prompt"] for row in rows[:2])
