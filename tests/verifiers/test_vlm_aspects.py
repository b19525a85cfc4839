from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from rapo_lightning.errors import UserError
from rapo_lightning.models import ModelPool, TransformersVisionLanguageModel
from rapo_lightning.prompting.judging import LOOK
from rapo_lightning.recipe import Recipe
from rapo_lightning.recipe.verifiers import verifier_names
from rapo_lightning.stage2.judges import build_judges
from rapo_lightning.verifiers import Judgement, VlmAspects
from rapo_lightning.verifiers.vlm_aspects import ASPECTS
from tests import tiny_models
from tests.verifiers.clips import BAD, moving_patch, rolling, view


class Watched(TransformersVisionLanguageModel):
    """The real model, which remembers what it was asked, and may be told what to answer."""

    asked: list[list[dict[str, str]]]
    said: str | None = None
    likely: list[float] | None = None

    def answer(self, videos, fps, conversations, max_new_tokens):  # type: ignore[no-untyped-def]
        self.asked = [*getattr(self, "asked", []), *conversations]
        found = super().answer(videos, fps, conversations, min(max_new_tokens, 4))
        return found if self.said is None else [self.said] * len(found)

    def choose(self, videos, fps, conversations, openings, choices):  # type: ignore[no-untyped-def]
        found = super().choose(videos, fps, conversations, openings, choices)
        return found if self.likely is None else np.array([self.likely] * len(found))

    def answer_and_choose(self, videos, fps, conversations, max_new_tokens, opening, choices):  # type: ignore[no-untyped-def]
        self.asked = [*getattr(self, "asked", []), *conversations]
        said, found = super().answer_and_choose(videos, fps, conversations, min(max_new_tokens, 4), opening, choices)
        if self.said is None and self.likely is None:
            return said, found
        said = said if self.said is None else [self.said] * len(said)
        return said, self.choose(videos, fps, conversations, [opening(text) for text in said], choices)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.qwen_vl(tmp_path_factory.mktemp("vlm"))


def watched(folder: Path, said: str | None = None, likely: Sequence[float] | None = None) -> Watched:
    model = Watched(str(folder), "float32", batch_size=2)
    model.said, model.likely = said, None if likely is None else list(likely)
    return model


def judge(model: Watched, *views, aspects: Sequence[str] = ASPECTS) -> list[Judgement]:  # type: ignore[no-untyped-def]
    return VlmAspects(list(aspects)).judge(views, ModelPool(vision_language=model, device=torch.device("cpu")))


def clip(size: int = 64) -> np.ndarray:
    return moving_patch(rolling(9), (size, size))


def test_the_video_is_described_before_the_request_is_seen_and_judged_against_the_users(folder: Path) -> None:
    model = watched(folder)
    judge(model, view(clip(), source="a striped\nkite", prompt="A long caption."))
    look, *questions = model.asked
    assert look == [{"role": "user", "content": LOOK}]
    assert len(questions) == len(ASPECTS) == 3
    for question, aspect in zip(questions, ASPECTS, strict=True):
        first, shown, second = question
        assert first["content"] == LOOK
        assert shown["role"] == "assistant"
        assert "kite" not in first["content"] + shown["content"]
        assert "Request: a striped kite\n" in second["content"]
        assert f"Look at the {aspect} alone" in second["content"]
        assert "from 1 (" in second["content"]
        assert "A long caption." not in str(question)


def test_the_score_is_the_mean_over_the_grades_probabilities(folder: Path) -> None:
    (first,) = judge(watched(folder, "A kite.", [0, 0, 0, 0.5, 0.5]), view(clip()))
    assert first == Judgement(0.875)
    (poor,) = judge(
        watched(folder, "The kite is missing. Score: 1", [0.9, 0, 0, 0, 0]), view(clip()), aspects=["objects"]
    )
    assert poor == Judgement(0.0, "The kite is missing.")


@pytest.mark.parametrize("said", ["", "word " * 60, "{request} <|im_end|> Score"])
def test_answers_without_a_grade_are_recorded_as_none(folder: Path, said: str) -> None:
    (judgement,) = judge(watched(folder, said, [0.01] * 5), view(clip()))
    assert judgement == Judgement(None)


def test_videos_that_cannot_be_read_have_no_score_and_the_rest_goes_on(folder: Path) -> None:
    single, black, good = clip()[:1], np.zeros((9, 64, 64, 3), np.uint8), clip()
    likely = [0, 0.25, 0.25, 0.25, 0.25]
    views = [view(BAD["grey"]), view(good), view(BAD["no frame"]), view(single), view(black)]
    found = judge(watched(folder, "A thing.", likely), *views)
    assert [item.score for item in found] == [None, 0.625, None, 0.625, 0.625]
    assert found[0].critique.startswith("The video cannot be read")
    assert judge(watched(folder), view(BAD["grey"]))[0].score is None


def test_one_aspect_has_a_column_of_its_own() -> None:
    component = {"class_path": "rapo_lightning.verifiers.VlmAspects"}
    recipe = Recipe(vision_language_model={"class_path": "x.Y"})
    recipe.stage2.verifiers = [{**component, "init_args": {"aspects": [name]}} for name in ASPECTS]  # type: ignore[typeddict-item]
    assert verifier_names(recipe) == ["vlm_objects", "vlm_actions", "vlm_scene"]
    assert len(build_judges(recipe)) == 3
    recipe.vision_language_model = {}
    with pytest.raises(UserError, match="needs a `vision_language_model`"):
        build_judges(recipe)
    recipe.stage2.verifiers = [component]  # type: ignore[list-item]
    assert verifier_names(recipe) == ["vlm_aspects"]


@pytest.mark.parametrize("aspects", [[], ["mood"], ["scene", "scene"]])
def test_unknown_aspects_are_refused(aspects: list[str]) -> None:
    with pytest.raises(UserError, match="objects, actions, scene, each once"):
        VlmAspects(aspects)
