from __future__ import annotations

import pytest
import torch

from rapo_lightning.errors import UserError
from rapo_lightning.models import ModelPool
from rapo_lightning.verifiers import Judgement, MeanOfVerifiers, TextFidelity, WordCount
from tests.helpers import WordEmbedder
from tests.verifiers.clips import BAD, moving_patch, rolling, view

POOL = ModelPool(embedder=WordEmbedder(), device=torch.device("cpu"))


def prompts(*texts: str, source: str = "a red ball") -> list:  # type: ignore[type-arg]
    return [view(BAD["grey"], source=source, prompt=text) for text in texts]


def test_text_fidelity_is_a_floor() -> None:
    same, other, none = TextFidelity(0.5).judge(prompts("a red ball", "blue cats run", ""), POOL)
    assert same.score == 1.0
    assert other.score is not None
    assert other.score < 0.5
    assert none.score is not None


def test_word_count_is_full_within_its_limits_and_falls_beyond() -> None:
    scores = WordCount(most=10, least=4).judge(prompts("w " * 4, "w " * 10, "w " * 15, "w " * 30, "w w", ""), POOL)
    assert [item.score for item in scores] == [1.0, 1.0, 0.5, 0.0, 0.5, 0.0]
    assert [item.critique for item in scores[:2]] == ["", ""]
    assert scores[2].critique == "The caption is too long."
    assert scores[4].critique == "The caption is too short."


@pytest.mark.parametrize("limits", [(0, 0), (5, 6)])
def test_impossible_limits_are_refused(limits: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="1 <= least <= most"):
        WordCount(*limits)


def test_a_mean_leaves_out_who_cannot_score() -> None:
    class Blind:
        name = "blind"

        def judge(self, views, models):  # type: ignore[no-untyped-def]
            return [Judgement(None) for _ in views]

    views = [view(moving_patch(rolling()), source="a red ball", prompt="a red ball")]
    assert MeanOfVerifiers([Blind(), TextFidelity(), WordCount(most=1)]).judge(views, POOL)[0].score == 0.5
    assert MeanOfVerifiers([Blind()]).judge(views, POOL) == [Judgement(None)]
