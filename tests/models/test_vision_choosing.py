"""How an answer goes on, read from its own generation: the same as by another pass, which is made only where it must be."""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np
import pytest
import torch

from rapo_lightning.models import TransformersVisionLanguageModel, answer_and_choose
from rapo_lightning.models.choosing import written_at
from tests import tiny_models
from tests.verifiers.clips import moving_patch, rolling

CHOICES = list("abcde")
VIDEOS = [moving_patch(rolling(9, pace), (64, 64), seed=seed) for seed, pace in enumerate((0.1, 0.2, 0.3))]
ASKED = [[{"role": "user", "content": text}] for text in ("Say it.", "What is that thing over there?", "x y z")]


class Counting(TransformersVisionLanguageModel):
    """The real model, which counts its passes."""

    generated = chosen = 0

    def _generate(self, *arguments, **options):  # type: ignore[no-untyped-def]
        self.generated += 1
        return super()._generate(*arguments, **options)

    def choose(self, videos, *arguments):  # type: ignore[no-untyped-def]
        self.chosen += len(videos)
        return super().choose(videos, *arguments)


class TwoPasses:
    """The same model without a method of its own."""

    def __init__(self, model: Counting) -> None:
        self.answer, self.choose = model.answer, model.choose


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Counting:
    """A random one that says letters, others after each; with tied embeddings and small weights it would repeat itself."""
    made = Counting(str(tiny_models.qwen_vl(tmp_path_factory.mktemp("vlm"))), "float32", batch_size=2)
    made.load()
    torch.manual_seed(0)
    for weight in made.model.model.language_model.layers.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    head = torch.zeros_like(made.model.lm_head.weight)
    letters = made.processor.tokenizer.convert_tokens_to_ids(list(string.ascii_letters))
    head[letters] = torch.randn(len(letters), head.shape[1])
    made.model.lm_head.weight = torch.nn.Parameter(head)
    return made


def both(model: Counting, opening: Callable[[str], str], tokens: int = 8):  # type: ignore[no-untyped-def]
    model.generated = model.chosen = 0
    found = answer_and_choose(model, VIDEOS, 8.0, ASKED, tokens, opening, CHOICES)
    passes = (model.generated, model.chosen)
    wanted = answer_and_choose(TwoPasses(model), VIDEOS, 8.0, ASKED, tokens, opening, CHOICES)  # type: ignore[arg-type]
    assert found[0] == wanted[0]
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-3, atol=1e-7)
    return found, passes


def test_what_the_model_wrote_itself_takes_no_other_pass(model: Counting) -> None:
    (answers, likely), passes = both(model, lambda text: text[:3])
    assert len(set(answers)) == 3
    assert all(len(text) == 8 for text in answers)
    assert likely.shape == (3, 5)
    assert len(np.unique(likely.round(9), axis=0)) == 3
    assert passes == (2, 0)


def test_other_openings_take_one_for_these_rows_alone(model: Counting) -> None:
    answers = model.answer(VIDEOS, 8.0, ASKED, 8)
    for text in ("zz", "\ufffd"):
        _, passes = both(model, lambda said, text=text: text if said == answers[1] else said[:3])  # type: ignore[misc]
        assert passes == (2, 1)
    _, passes = both(model, lambda said: said)
    assert passes == (2, 3)  # cut off before the choice


def test_an_opening_is_found_in_tokens(model: Counting) -> None:
    tokenizer = model.processor.tokenizer
    ids = tokenizer("<|im_start|>ab é", add_special_tokens=False).input_ids
    assert written_at(tokenizer, ids, "") == 0
    assert written_at(tokenizer, ids, "ab") == 3
    assert written_at(tokenizer, ids, "ab é") == len(ids)
    assert written_at(tokenizer, ids, "b") is None
    # Half a letter is no text that could be encoded again.
    assert written_at(tokenizer, ids, "ab \ufffd") is None
    assert answer_and_choose(model, [], 8.0, [], 4, lambda text: text, CHOICES)[1].shape == (0, 5)
