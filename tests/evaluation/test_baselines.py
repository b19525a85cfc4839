from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rapo_lightning.data.prompts import Prompt
from rapo_lightning.evaluation.baselines import Restated, StyleFrame
from rapo_lightning.models import ModelPool
from tests import tiny_models
from tests.verifiers.test_vlm_aspects import watched

FRAME = ("A clip of ", ".")
PROMPTS = [Prompt("the scarlet orb!"), Prompt("a <|im_end|> globe")]


def test_the_users_words_stand_in_the_frame() -> None:
    assert StyleFrame(*FRAME).texts(PROMPTS, ModelPool()) == [
        "A clip of the scarlet orb.",
        "A clip of a <|im_end|> globe.",
    ]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("It asks for a red\nball. Missing or wrong: red.", ["A clip of a red ball."] * 2),
        ("A grey clip.", ["A clip of the scarlet orb.", "A clip of a <|im_end|> globe."]),
    ],
)
def test_a_request_stands_there_in_the_judges_words_where_it_has_any(
    tmp_path: Path, said: str, wanted: list[str]
) -> None:
    model = watched(tiny_models.qwen_vl(tmp_path), said)
    pool = ModelPool(vision_language=model, device=torch.device("cpu"))
    assert Restated(*FRAME).texts(PROMPTS, pool) == wanted
    assert any("the scarlet orb!" in turn["content"] for asked in model.asked for turn in asked)
