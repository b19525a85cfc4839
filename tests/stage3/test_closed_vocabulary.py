"""Answers in a closed vocabulary: what may follow, and that a model keeps to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from rapo_lightning.cli import main
from rapo_lightning.errors import UserError
from rapo_lightning.models import TransformersLanguageModel
from rapo_lightning.models.closed_vocabulary import ClosedVocabulary, OnlyWords
from rapo_lightning.models.refiner import Refiner
from rapo_lightning.models.refiner_folder import CLOSED, read_refiner
from rapo_lightning.prompting.chat import Sampling
from rapo_lightning.prompting.text import letter_runs
from rapo_lightning.stage3.export import closed_vocabulary

WORDS = ["a", "small", "medium-sized", "ball", "balloon"]


@pytest.fixture(scope="module")
def vocabulary(language_model: Path) -> ClosedVocabulary:
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    return ClosedVocabulary(WORDS, tokenizer)


def reads(vocabulary: ClosedVocabulary, tokenizer: object, text: str) -> bool:
    """Whether a text passes token by token, and may end there."""
    state = vocabulary.start
    for token in tokenizer.encode(text, add_special_tokens=False):  # type: ignore[attr-defined]
        if not vocabulary.allowed(state)[token]:
            return False
        state = vocabulary.after(state, token)
    return bool(vocabulary.allowed(state)[tokenizer.eos_token_id])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("A small ball.", True), ("a medium-sized BALL, a balloon 2", True), ("a sized ball", True), ("balloon", True),
        ("a smal", False), ("a smallball", False), ("an amber ball", False), ("balls", False), ("ball's", False),
    ],
)  # fmt: skip
def test_runs_of_letters_are_words(vocabulary: ClosedVocabulary, language_model: Path, text: str, passes: bool) -> None:
    assert reads(vocabulary, AutoTokenizer.from_pretrained(language_model), text) == passes
    assert letter_runs("Medium-sized, 2 BALLS") == ["medium", "sized", "balls"]


def test_rows_are_apart_and_ended_ones_are_free(vocabulary: ClosedVocabulary, language_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    only, size = OnlyWords(vocabulary, 2), vocabulary.size + 3
    prompts = torch.zeros(2, 2, dtype=torch.long)
    first = only(prompts, torch.zeros(2, size))
    assert torch.equal(first[0], first[1])
    # Scores beyond the tokenizer's tokens belong to none.
    assert torch.isinf(first[:, vocabulary.size :]).all()
    tokens = torch.tensor([[tokenizer.eos_token_id], [tokenizer.encode("b", add_special_tokens=False)[-1]]])
    second = only(torch.cat([prompts, tokens], 1), torch.zeros(2, size))
    assert torch.isfinite(second[0]).all()
    assert torch.isfinite(second[1]).any()
    assert not torch.isfinite(second[1]).all()


def test_a_refiner_keeps_to_its_words(copied: Path) -> None:
    folder = copied / "refiner"
    before = read_refiner(folder)
    (folder / CLOSED).write_text("\n".join(WORDS) + "\n")
    closed = read_refiner(folder)
    assert closed.closed == frozenset(WORDS)
    assert closed.identity() != before.identity()
    base = TransformersLanguageModel(closed.base_model)
    turns = [[{"role": "user", "content": text}] for text in ("a red ball", "an amber kite over the sea")]
    free = base.complete(turns, [0, 1], Sampling(temperature=0.0, max_new_tokens=12))
    for alone in (False, True):
        model = TransformersLanguageModel(closed.base_model).adapted(str(folder), alone)
        for temperature in (0.0, 1.5):
            answers = model.complete(turns, [0, 1], Sampling(temperature=temperature, max_new_tokens=12), 2)
            for answer in (text for group in answers for text in group):
                *whole, last = letter_runs(answer) or [""]
                known = {run for word in WORDS for run in letter_runs(word)}
                assert set(whole) <= known
                # The last one may be cut off.
                assert not last or any(word.startswith(last) for word in known)
    (folder / CLOSED).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=f"{CLOSED} must be UTF-8"):
        read_refiner(folder)
    (folder / CLOSED).write_text("a\n")
    adapted = base.adapted(str(folder))
    adapted.complete(turns, [0, 1], Sampling(temperature=0.0, max_new_tokens=12))
    assert base.complete(turns, [0, 1], Sampling(temperature=0.0, max_new_tokens=12)) == free


def test_a_server_is_said_not_to_know_the_words(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Server:
        remote = True

    Refiner(read_refiner(copied / "refiner"), Server())  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""
    (copied / "refiner" / CLOSED).write_text("ball\n")
    Refiner(read_refiner(copied / "refiner"), Server())  # type: ignore[arg-type]
    assert "keeps to its own words only where it runs here" in capsys.readouterr().err


def test_finetune_writes_the_words_of_its_targets(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(
        "prompt,completion\n" + "".join(f"ball {n},a red ball rolls {'kite' * (n == 1)}\n" for n in range(6))
    )
    given = [
        "finetune",
        str(recipe),
        "--pairs",
        str(pairs),
        "--stage3.pairs",
        "[]",
        "--stage3.epochs",
        "1",
        "--allow_package",
        "tests",
    ]
    own = [*given, "--out", str(tmp_path / "out")]
    assert main([*own, "--stage3.closed_vocabulary", "2"]) == 0
    assert read_refiner(tmp_path / "out/refiner").closed == {"a", "red", "ball", "rolls"}
    assert (
        "| words | 4 that it keeps to (`closed_vocabulary.txt`) |" in (tmp_path / "out/refiner/README.md").read_text()
    )
    # Trained already, and other words make another refiner of it.
    assert main(own) == 0
    assert read_refiner(tmp_path / "out/refiner").closed == frozenset()
    assert main([*own, "--stage3.closed_vocabulary", "99"]) == 2
    assert main([*own, "--stage3.closed_vocabulary", "-1"]) == 2
    told = capsys.readouterr().err
    assert "Got 99 and" in told
    assert "closed_vocabulary and hindsight_most >= 0. Got -1 and 0" in told


def test_words_of_few_targets_are_left_out(vocabulary: ClosedVocabulary, language_model: Path) -> None:
    rows = [
        {"completion": [{"role": "assistant", "content": text}]} for text in ("A red ball.", "a red kite", "a Ball")
    ]
    assert closed_vocabulary(rows, 2) == {"a", "red", "ball"}
    assert closed_vocabulary(rows, 0) == frozenset()
    with pytest.raises(UserError, match="which share no word; lower it"):
        closed_vocabulary(rows, 9)
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    with pytest.raises(UserError, match="needs words. Got none"):
        ClosedVocabulary(["2", ""], tokenizer)
