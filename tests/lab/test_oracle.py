from __future__ import annotations

import re

import numpy as np
import pytest

from rapo_lightning.data.prompts import read_prompts
from rapo_lightning.lab.captions import ACTIONS, BACKGROUND_PHRASES, DIRECTIONS, PAIR_VERBS
from rapo_lightning.lab.damage import MILD
from rapo_lightning.lab.laws import collision_residual, law_residuals, recognize_law
from rapo_lightning.lab.motion import trajectory
from rapo_lightning.lab.oracle import FAULT_FACTOR, judge, judge_bytes, read_video
from rapo_lightning.lab.reading import read_caption
from rapo_lightning.lab.remarks import remark
from rapo_lightning.lab.render import rasterize, render_batch
from rapo_lightning.lab.requests import asked, wordings
from rapo_lightning.lab.scene import Body, Scene
from rapo_lightning.lab.scripts.files import possible_values
from rapo_lightning.lab.scripts.judging import Drawing
from rapo_lightning.lab.tracking import observe
from rapo_lightning.lab.user_prompts import user_prompt
from rapo_lightning.lab.verifier import LabOracle
from rapo_lightning.lab.world import COLOURS, SHAPES
from rapo_lightning.prompting.text import content_words
from rapo_lightning.verifiers import View
from tests.helpers import ROOT, WordEmbedder


@pytest.mark.parametrize("damage", [None, *MILD.values()], ids=["none", *MILD])
def test_true_videos_are_read_right_and_have_no_fault_though_mildly_damaged(rendered, damage) -> None:
    scenes, videos = rendered
    rng = np.random.default_rng(0)
    for scene, clip in zip(scenes, videos, strict=True):
        shown = damage(clip) if damage else clip
        reading = read_video(shown)
        assert (reading.attributes, reading.faults) == (scene.attributes, ()), scene
        if damage is None:
            assert judge(user_prompt(scene, rng), shown).score == 1.0


def test_other_scenes_score_little(rendered) -> None:
    scenes, videos = rendered
    rng = np.random.default_rng(0)
    prompts = [user_prompt(scene, rng) for scene in scenes[:60]]
    assert np.mean([judge(prompt, clip).score for prompt, clip in zip(prompts, videos[60:], strict=False)]) < 0.25


def test_an_odd_frame_does_not_fail_a_clip_but_three_do() -> None:
    scene = Scene((Body("ball", "red", "medium"),), "snow", "rise")
    clip = render_batch([scene], np.random.default_rng(0))[0].permute(0, 2, 3, 1).numpy().copy()
    request = "a red ball going up in winter"
    clip[5] = 0
    assert judge(request, clip).score == 1.0
    clip[9:11] = 0
    verdict = judge(request, clip)
    assert set(verdict.faults) == {"scene", "light", "gone"}
    assert verdict.score == pytest.approx(0.75 * FAULT_FACTOR)


def test_critique_says_what_was_seen_and_repeats_the_users_words(rendered) -> None:
    scenes, videos = rendered
    index = next(i for i, scene in enumerate(scenes) if scene.motion == "rise" and scene.bodies[0].colour == "green")
    verdict = judge("a lemon ball coming to a standstill", videos[index])
    assert not verdict.right["colour"]
    assert "The video shows a green body; asked for was lemon." in verdict.critique
    assert "The video shows a body rising; asked for was coming to a standstill." in verdict.critique
    assert judge("a green ball going up", videos[index]).right["motion"]


def test_extra_bodies_and_stillness_are_faults_of_what_was_asked(rendered) -> None:
    scenes, videos = rendered
    pair = next(clip for scene, clip in zip(scenes, videos, strict=True) if scene.motion == "beside")
    assert {"extra", "still"} <= set(judge("a red ball going up", pair).faults)
    rest = next(clip for scene, clip in zip(scenes, videos, strict=True) if scene.motion == "rest")
    assert judge("a red ball going up", rest).faults == ("still",)
    assert judge("a red ball standing still", rest).faults == ()


def test_empty_and_noisy_videos_score_low() -> None:
    black = np.zeros((17, 64, 64, 3), np.float32)
    noise = np.random.default_rng(0).random((17, 64, 64, 3), np.float32)
    for video in (black, noise):
        verdict = judge("a red ball going up", video)
        assert verdict.score == 0
        assert {"scene", "gone"} <= set(verdict.faults)
        assert "The video shows no steady colour; asked for was red." in verdict.critique


def _phrases(key: str, value: str) -> tuple[str, ...]:
    if key == "background":
        return BACKGROUND_PHRASES[value]
    if key == "motion":
        pairs = {"collide": (*PAIR_VERBS, "which is pushed away"), "beside": ("resting to the left of",)}
        return pairs.get(value) or ACTIONS[value]
    return ("medium-sized" if value == "medium" else value,)


def _leaked(key: str, value: str, values: list[str], request: str, sentence: str) -> set[str]:
    """Words that the captions use for a value and for no other, in a sentence, though not in the request."""
    kind = key.removesuffix("_2")
    if kind == "direction":
        return {DIRECTIONS[value]} if DIRECTIONS[value] in sentence and DIRECTIONS[value] not in request else set()
    others = {word for other in values if other != value for text in _phrases(kind, other) for word in text.split()}
    own = {word for text in _phrases(kind, value) for word in content_words(text)} - others
    return (own & set(content_words(sentence))) - set(content_words(request))


def _wrong(scene: Scene) -> Scene:
    """A scene of the same number of bodies that shares nothing with another."""
    colours, shapes = list(COLOURS), list(SHAPES)
    taken = {body.colour for body in scene.bodies}
    free = [colour for colour in colours if colour not in taken]
    bodies = tuple(
        Body(shapes[shapes.index(body.shape) - 1], free[i], "small" if body.size == "medium" else "medium")
        for i, body in enumerate(scene.bodies)
    )
    places = list(BACKGROUND_PHRASES)
    place = places[places.index(scene.background) - 1]
    motions = possible_values("motion", scene.attributes)
    motion = motions[motions.index(scene.motion) - 1]
    turned = "left_to_right" if scene.direction == "right_to_left" else "right_to_left"
    return Scene(bodies, place, motion, turned if motion in ("roll", "slide", "throw", "collide") else "")


def test_no_critique_gives_an_answer_away() -> None:
    prompts = read_prompts(str(ROOT / "recipes/lab/prompts_heldout.csv"))
    for prompt in prompts:
        wanted, phrases = asked(prompt.text), wordings(prompt.text)
        for key, value in wanted.items():
            values = possible_values(key, wanted)
            for seen in {*values, ""} - {value}:
                sentence = remark(key, seen, phrases[key])
                assert not _leaked(key, value, values, prompt.text.lower(), sentence.lower()), sentence
    rng = np.random.default_rng(0)
    for prompt in prompts[::6]:
        scene = read_caption(prompt.reference)
        assert scene is not None
        verdict = judge(prompt.text, render_batch([_wrong(scene)], rng)[0].permute(0, 2, 3, 1).numpy())
        assert not any(verdict.right.values()), prompt.text
        for key, value in asked(prompt.text).items():
            values = possible_values(key, scene.attributes)
            sentences = [
                s for s in re.split(r"(?<=\.) ", verdict.critique) if s.endswith(f"was {wordings(prompt.text)[key]}.")
            ]
            assert sentences, verdict.critique
            assert not any(_leaked(key, value, values, prompt.text.lower(), s.lower()) for s in sentences)


def test_wrong_frame_size_is_named() -> None:
    with pytest.raises(ValueError, match="32, 32"):
        observe(np.zeros((17, 32, 32, 3), np.float32))


def test_laws_survive_noise_and_missing_frames() -> None:
    t = np.arange(17) / 8
    rng = np.random.default_rng(0)
    rise = np.stack([np.full(17, 30.0), 45 - 16 * t], axis=1) + rng.normal(0, 0.4, (17, 2))
    rise[3:5] = np.nan
    assert recognize_law(rise)[0] == "rise"
    assert recognize_law(np.full((17, 2), np.nan)) == ("", float("inf"))
    assert law_residuals(rise)["fall"] > law_residuals(rise)["rise"]


def test_a_collision_is_a_push_and_not_any_two_motions() -> None:
    t = np.arange(17) / 8
    floor = np.full(17, 45.0)
    first = np.stack([20 + 20 * np.minimum(t - 0.75, 0), floor], axis=1)
    second = np.stack([40 + 10 * np.maximum(t - 0.75, 0), floor], axis=1)
    assert collision_residual(first, second) < 0.1
    assert collision_residual(first[::-1], second) == float("inf")
    shuffled = np.random.default_rng(0).permutation(17)
    assert collision_residual(first[shuffled], second[shuffled]) > 2.5
    assert collision_residual(first, np.full((17, 2), np.nan)) == float("inf")


def test_requests_that_are_not_understood_have_no_score() -> None:
    clip = np.zeros((17, 64, 64, 3), np.uint8)
    view = View("a silver ball", "", "x", clip, 8, 0.5)
    (judgement,) = LabOracle().judge([view], WordEmbedder())
    assert judgement.score is None
    assert judgement.critique == (
        'The lab does not understand this request: It says "silver", which the lab does not know.'
    )


def test_verifier_gives_the_same_in_worker_processes(rendered) -> None:
    _, videos = rendered
    clips = [(clip * 255).round().astype(np.uint8) for clip in videos[:3]]
    views = [View("a red ball going up", "", "x", clip, 8, 0.5) for clip in clips]
    here, there = LabOracle().judge(views, WordEmbedder()), LabOracle(workers=2).judge(views, WordEmbedder())
    assert here == there
    assert here[0].score == judge_bytes(("a red ball going up", clips[0], None))[0]


@pytest.mark.parametrize("gap", [0, -4])
def test_a_twin_that_touches_the_body_is_no_shape_of_the_lab(gap: int) -> None:
    scene = Scene((Body("square", "red", "small"),), "snow", "rest")
    frames = Drawing(scene, 1).frames()
    assert frames is not None
    assert judge("a small red square standing still", frames).score == 1.0
    twin = np.roll(frames, 11 + gap, axis=2)
    red = (twin[..., 0] > 0.6) & (twin[..., 1] < 0.4)
    joined = np.where(red[..., None], twin, frames)
    verdict = judge("a small red square standing still", joined)
    assert "shape" in verdict.faults
    assert verdict.score is not None
    assert verdict.score <= FAULT_FACTOR


def test_a_piece_cut_out_of_the_middle_is_a_jump() -> None:
    scene = Scene((Body("ball", "red", "small"),), "snow", "roll", "left_to_right")
    track = trajectory(scene, np.random.default_rng(1), 21)
    kept = np.concatenate([track[:, :8], track[:, 12:]], axis=1)
    frames = np.ascontiguousarray(rasterize([scene], [kept])[0].permute(0, 2, 3, 1).numpy())
    assert "jumps" in judge("a red ball rolling", frames).faults


def test_a_video_without_frames_is_named() -> None:
    with pytest.raises(ValueError, match=r"Got \(0, 64, 64, 3\)"):
        observe(np.zeros((0, 64, 64, 3), np.float32))
