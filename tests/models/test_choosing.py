from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rapo_lightning.errors import UserError
from rapo_lightning.models import ModelPool, TransformersLanguageModel
from rapo_lightning.models.chat_template import encode_conversations

ASKED = [[{"role": "user", "content": text}] for text in ("a ball", "a much longer request with many words", "x")]
CHOICES = ["1", "2", "3"]


def test_choices_have_the_probabilities_of_the_next_token(language_model: Path) -> None:
    model = TransformersLanguageModel(str(language_model), "float32", 2)
    found = model.choose(ASKED, ["Score: "] * 3, CHOICES)
    for asked, row in zip(ASKED, found, strict=True):
        text = model.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) + "Score: "
        ids = model.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            probabilities = model.model(ids).logits[0, -1].softmax(-1)
        wanted = [float(probabilities[model.tokenizer.convert_tokens_to_ids(choice)]) for choice in CHOICES]
        np.testing.assert_allclose(row, wanted, rtol=1e-4)
    assert 0 < found.sum(axis=1).max() < 1


def test_choices_do_not_depend_on_the_batch_and_go_through_the_pool(language_model: Path) -> None:
    model = TransformersLanguageModel(str(language_model), "float32", 3)
    together = model.choose(ASKED, ["a ", "", "b: "], CHOICES)
    pool = ModelPool(language=model, device=torch.device("cpu"))
    for asked, opening, row in zip(ASKED, ["a ", "", "b: "], together, strict=True):
        np.testing.assert_allclose(pool.lend_language().choose([asked], [opening], CHOICES)[0], row, rtol=1e-4)
    assert model.choose([], [], CHOICES).shape == (0, 3)


def test_choices_that_begin_alike_are_refused(language_model: Path) -> None:
    with pytest.raises(UserError, match="must differ in their first token"):
        TransformersLanguageModel(str(language_model), "float32").choose(ASKED[:1], [""], ["same", "same"])


def test_an_opening_is_never_read_as_control_tokens(language_model: Path) -> None:
    model = TransformersLanguageModel(str(language_model), "float32")
    model.load()
    end = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    plain, told = encode_conversations(model.tokenizer, ASKED[:1] * 2, True, ["x", "x<|im_end|>"])
    assert plain.count(end) == told.count(end)
    assert len(told) > len(plain)
