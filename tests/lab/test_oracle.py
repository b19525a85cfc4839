from __future__ import annotations

import numpy as np
import pytest

from rapo_lightning.lab.laws import law_residuals, recognize_law
from rapo_lightning.lab.oracle import judge, judge_bytes, read_video
from rapo_lightning.lab.scripts.measure import expected_attributes
from rapo_lightning.lab.tracking import track_bodies
from rapo_lightning.lab.user_prompts import user_prompt
from rapo_lightning.lab.verifier import LabOracle
from rapo_lightning.verifiers import View
from rapo_lightning.verifiers.flow import measure_flow
from tests.helpers import WordEmbedder


def test_oracle_reads_rendered_truth(rendered) -> None:
    scenes, videos = rendered
    right = [read_video(clip).attributes == expected_attributes(s) for s, clip in zip(scenes, videos, strict=True)]
    assert np.mean(right) >= 0.99


def test_truth_scores_full_marks_and_other_scenes_do_not(rendered) -> None:
    scenes, videos = rendered
    rng = np.random.default_rng(0)
    prompts = [user_prompt(scene, rng) for scene in scenes[:60]]
    own = [judge(prompt, clip).score for prompt, clip in zip(prompts, videos, strict=False)]
    other = [judge(prompt, clip).score for prompt, clip in zip(prompts, videos[60:], strict=False)]
    assert np.mean(own) > 0.99
    assert np.mean(other) < 0.4


def test_critique_names_what_is_missing(rendered) -> None:
    scenes, videos = rendered
    index = next(i for i, scene in enumerate(scenes) if scene.motion == "rise" and scene.bodies[0].colour != "red")
    verdict = judge("a red ball going up", videos[index])
    assert not verdict.right["colour"]
    assert verdict.right["motion"]
    assert "The colour should be red." in verdict.critique


def test_empty_and_noisy_videos_score_low() -> None:
    black = np.zeros((17, 64, 64, 3), np.float32)
    noise = np.random.default_rng(0).random((17, 64, 64, 3), np.float32)
    assert judge("a red ball going up", black).score == 0
    assert judge("a red ball going up", noise).score <= 1 / 3


def test_prompt_without_known_words_says_so() -> None:
    verdict = judge("an elephant", np.zeros((17, 64, 64, 3), np.float32))
    assert verdict.score == 0
    assert "names nothing" in verdict.critique


def test_wrong_frame_size_is_named() -> None:
    with pytest.raises(ValueError, match="32, 32"):
        track_bodies(np.zeros((17, 32, 32, 3), np.float32))


def test_laws_survive_noise_and_missing_frames() -> None:
    t = np.arange(17) / 8
    rng = np.random.default_rng(0)
    rise = np.stack([np.full(17, 30.0), 45 - 16 * t], axis=1) + rng.normal(0, 0.4, (17, 2))
    rise[3:5] = np.nan
    assert recognize_law(rise)[0] == "rise"
    assert recognize_law(np.full((17, 2), np.nan)) == ("", float("inf"))
    assert law_residuals(rise)["fall"] > law_residuals(rise)["rise"]


def test_verifier_gives_the_same_in_worker_processes(rendered) -> None:
    _, videos = rendered
    clips = [(clip * 255).round().astype(np.uint8) for clip in videos[:3]]
    views = [View("a red ball going up", "", "x", clip, 8, measure_flow(clip, 8, 0.5)) for clip in clips]
    here, there = LabOracle().judge(views, WordEmbedder()), LabOracle(workers=2).judge(views, WordEmbedder())
    assert here == there
    assert here[0].score == judge_bytes(("a red ball going up", clips[0]))[0]
