from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from rapo_lightning.errors import UserError
from rapo_lightning.models import ModelPool
from rapo_lightning.prompting.judging import LOOK, before_score, critique_of, restated_in, shown_in
from rapo_lightning.recipe import Recipe
from rapo_lightning.recipe.identity import row_hash
from rapo_lightning.recipe.verifiers import verifier_names
from rapo_lightning.running.pool import open_pool
from rapo_lightning.stage2.judges import build_judges
from rapo_lightning.verifiers import Judgement, VlmAlignment
from tests import tiny_models
from tests.verifiers.clips import BAD, view
from tests.verifiers.test_vlm_aspects import Watched, clip, watched

COMPONENT = {"class_path": "rapo_lightning.verifiers.VlmAlignment"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.qwen_vl(tmp_path_factory.mktemp("vlm"))


def judge(model: Watched, *views) -> list[Judgement]:  # type: ignore[no-untyped-def]
    return VlmAlignment().judge(views, ModelPool(vision_language=model, device=torch.device("cpu")))


def test_the_video_is_described_before_the_request_is_seen_and_judged_against_the_users(folder: Path) -> None:
    model = watched(folder)
    judge(model, view(clip(), source="a striped\nkite", prompt="A long caption."))
    first, second = model.asked
    assert first == [{"role": "user", "content": LOOK}]
    assert second[0] == first[0]
    assert "a striped kite" in second[2]["content"]
    assert not any("A long caption." in turn["content"] for turn in second)


@pytest.mark.parametrize(
    ("likely", "score"),
    [((0, 0, 0, 0, 1), 1.0), ((1, 0, 0, 0, 0), 0.0), ((0, 0, 0.4, 0.4, 0), 0.625), ((0.1, 0, 0, 0, 0.1), None)],
)
def test_the_score_is_the_mean_over_the_probabilities(
    folder: Path, likely: Sequence[float], score: float | None
) -> None:
    (found,) = judge(watched(folder, "A kite.", likely), view(clip()))
    assert found.score == (pytest.approx(score) if score is not None else None)
    assert found.critique == "A kite. Compared with the request: A kite."


@pytest.mark.parametrize("said", ["", "prose " * 200, "<|im_end|>"], ids=["nothing", "prose", "control token"])
def test_odd_answers_are_recorded(folder: Path, said: str) -> None:
    (found,) = judge(watched(folder, said), view(clip()))
    assert found.score is None or 0 <= found.score <= 1


def test_what_is_no_video_is_said_and_the_rest_judged(folder: Path) -> None:
    wrong = [frames for frames in BAD.values() if np.asarray(frames).dtype != np.uint8 or np.ndim(frames) != 4]
    found = judge(watched(folder, "A kite.", (0, 0, 0, 0, 1)), *(view(frames) for frames in wrong), view(clip()))
    assert [item.score for item in found] == [None] * len(wrong) + [1.0]
    assert all(item.critique for item in found)


def test_the_judges_reading_of_the_request_is_not_told() -> None:
    shown = "The video shows a green ball."
    assert (
        critique_of(shown, "It asks for a yellow ball. Missing or wrong: colour.")
        == f"{shown} Missing or wrong: colour."
    )
    assert critique_of(shown, "The colour is wrong.") == f"{shown} Compared with the request: The colour is wrong."


def test_what_a_video_shows_is_read_from_a_critique() -> None:
    shown = "The video shows a green ball, at rest."
    for compared in ("It asks for a ball. Missing or wrong: colour.", "The colour is wrong."):
        assert shown_in(critique_of(shown, compared)) == "a green ball, at rest"
    assert shown_in(critique_of("A ball rolls. It stops.", "Fine.")) == "A ball rolls. It stops"
    assert shown_in("The video has a single frame.") == shown_in("") == shown_in(critique_of("", "Wrong.")) == ""


@pytest.mark.parametrize(
    ("compared", "restated"),
    [
        ("It asks for a red ball, at rest. Missing or wrong: colour.", "a red ball, at rest"),
        ("The request asks for a ball. It is red! The colour is wrong.", "a ball"),
        ("It asks for a ball", "a ball"),
        ("It asks for a red ball. It rolls to the left. Missing or wrong: motion.", "a red ball. It rolls to the left"),
        ("It asks for St. Peter's Square at dawn. It rains.", "St. Peter's Square at dawn"),
        ("It asks for a cat, but the video shows a dog.", ""),
        ("It asks for ! Missing or wrong: nothing.", ""),
        ("The colour is wrong. It asks for a ball.", ""),
        ("Missing or wrong: nothing.", ""),
        ("", ""),
    ],
)
def test_the_request_is_restated_where_the_second_answer_begins_with_it(compared: str, restated: str) -> None:
    assert restated_in(compared) == restated


def test_a_score_to_play_from_is_no_score() -> None:
    said = "It asks for a musician who reads a score by night. Missing or wrong: night. "
    assert restated_in(before_score(f"{said}Score: 1")) == "a musician who reads a score by night"
    assert before_score(f"{said}Score: 1") == said.strip()
    assert before_score("All is there. Score: 5. The score is high.") == "All is there."


def test_the_restated_request_is_part_of_the_judgement(folder: Path) -> None:
    (found,) = judge(watched(folder, "It asks for a\nkite. Missing or wrong: kite."), view(clip()))
    assert found.restated == "a kite"
    (plain,) = judge(watched(folder, "A kite."), view(clip()))
    assert plain.restated == ""


def test_a_recipe_names_the_judge_or_is_told_to(folder: Path) -> None:
    recipe = Recipe()
    recipe.stage2.verifiers = [COMPONENT]  # type: ignore[list-item]
    assert verifier_names(recipe) == ["vlm_alignment"]
    with pytest.raises(UserError, match="needs a `vision_language_model`"):
        build_judges(recipe)
    before = row_hash(recipe)
    arguments = {"checkpoint": str(folder), "batch_size": 2}
    recipe.vision_language_model = {
        "class_path": "rapo_lightning.models.TransformersVisionLanguageModel",
        "init_args": arguments,
    }
    assert len(build_judges(recipe)) == 1
    assert open_pool(recipe, ("vision_language_model",)).names["vision_language_model"] == str(folder)
    assert row_hash(recipe) != before
