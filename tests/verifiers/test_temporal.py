from __future__ import annotations

import numpy as np
import pytest
import torch

from rapo_lightning.models import ModelPool
from rapo_lightning.verifiers import Judgement, MotionSmoothness, TemporalCoherence
from rapo_lightning.verifiers.motion import measure_motion
from rapo_lightning.verifiers.usable import ONE_FRAME, PLAIN
from tests.verifiers.clips import BAD, FPS, moving_patch, noise, rolling, shuffled, swinging, view

POOL = ModelPool(device=torch.device("cpu"))


def coherence(frames: np.ndarray, fps: float = FPS) -> float:
    return measure_motion(frames, fps).coherence


def smoothness(frames: np.ndarray, fps: float = FPS) -> float:
    found = measure_motion(frames, fps).smoothness
    assert found is not None
    return found


@pytest.mark.parametrize("places", [rolling(), swinging()], ids=["rolling", "swinging"])
@pytest.mark.parametrize("size", [(64, 85), (192, 256), (480, 640)])
def test_two_resolutions_score_alike(places: list[tuple[float, float]], size: tuple[int, int]) -> None:
    here, there = moving_patch(places), moving_patch(places, size)
    assert coherence(there) == pytest.approx(coherence(here), abs=0.05)
    assert smoothness(there) == pytest.approx(smoothness(here), abs=0.05)


def test_what_goes_on_from_frame_to_frame_is_coherent_and_noise_is_not() -> None:
    true = moving_patch(rolling())
    assert coherence(true) > 0.7
    assert coherence(noise()) < 0.2
    assert coherence(np.concatenate([true[:9], noise(8)])) < 0.5
    flashing = true.copy()
    flashing[1::2] = 0
    assert coherence(flashing) < 0.1


@pytest.mark.parametrize("places", [rolling(), swinging()], ids=["rolling", "swinging"])
def test_shuffled_frames_score_lower(places: list[tuple[float, float]]) -> None:
    true = moving_patch(places)
    for seed in range(5):
        assert coherence(shuffled(true, seed)) < coherence(true) - 0.1
        assert smoothness(shuffled(true, seed)) < smoothness(true) - 0.3


def test_slow_motion_is_no_less_coherent() -> None:
    # A share of the change from frame to frame would be: interpolation misses more of a small change.
    slow, fast = moving_patch(rolling(pace=0.02)), moving_patch(rolling())
    assert coherence(slow) >= coherence(fast) - 0.05
    assert coherence(slow) >= coherence(shuffled(slow))


def test_a_still_video_stays_still_under_a_codecs_noise() -> None:
    still = moving_patch(rolling(pace=0)).astype(int)
    noisy = np.clip(still + np.random.default_rng(0).normal(0, 3, still.shape).round().astype(int), 0, 255)
    motion = measure_motion(noisy.astype(np.uint8), FPS)
    assert motion.coherence > 0.8
    assert motion.smoothness is None


def test_stuttering_scores_lower_and_constant_forces_cost_little() -> None:
    falling = moving_patch([(0.4, 0.6 * (number / 16) ** 2) for number in range(17)])
    assert smoothness(falling) > 0.85
    assert smoothness(moving_patch(rolling())) > 0.9
    for true in (falling, moving_patch(rolling()), moving_patch(swinging())):
        assert smoothness(true[np.arange(17) // 2]) < 0.2
    jumping = moving_patch([(x if number < 9 else x + 0.2, y) for number, (x, y) in enumerate(rolling())])
    assert smoothness(jumping) < smoothness(moving_patch(rolling())) - 0.05


def test_colours_of_equal_lightness_are_seen() -> None:
    frames = np.full((17, 64, 64, 3), (36, 172, 66), np.uint8)
    for number, frame in enumerate(frames):
        # Equal in grey to the ground.
        frame[20:40, 4 + 2 * number : 24 + 2 * number] = (222, 92, 17)
    motion = measure_motion(frames, FPS)
    assert motion.velocity[:, 0].mean() == pytest.approx(2 / 64 * FPS, rel=0.25)
    assert motion.coherence > 0.7


def test_velocities_are_shares_of_the_picture_per_second() -> None:
    for fps in (8.0, 16.0, 24.0):
        motion = measure_motion(moving_patch(rolling(int(2 * fps) + 1, fps=fps)), fps)
        assert motion.velocity[:, 0].mean() == pytest.approx(0.25, rel=0.2)
        assert motion.seconds == pytest.approx(0.125)
        assert motion.region_velocity.shape == (16, 3, 3, 2)


def test_scores_are_tenths_and_poor_ones_say_what_is_seen() -> None:
    true = moving_patch(rolling())
    stuttering = true[np.arange(17) // 2]
    views = [view(true), view(noise()), view(stuttering)]
    first, second, _ = TemporalCoherence().judge(views, POOL)
    assert (first.critique, second.critique) == ("", "The picture changes abruptly from frame to frame.")
    smooth, _, jerky = MotionSmoothness().judge(views, POOL)
    assert (smooth.critique, jerky.critique) == ("", "The motion stops again and again.")
    assert all(item.score == round(item.score or 0, 1) for item in (first, second, smooth, jerky))


@pytest.mark.parametrize("verifier", [TemporalCoherence(), MotionSmoothness()], ids=lambda item: item.name)
def test_bad_videos_are_judged_and_the_rest_of_the_batch_goes_on(verifier: TemporalCoherence) -> None:
    black, good = np.zeros((17, 96, 128, 3), np.uint8), moving_patch(rolling())
    views = [view(frames) for frames in (*BAD.values(), black, good)]
    *bad, dark, fine = verifier.judge(views, POOL)
    assert [item.score for item in bad] == [None] * len(BAD)
    assert all(item.critique.startswith("The video ") for item in bad)
    assert bad[0].critique == ONE_FRAME
    assert dark == Judgement(0.0, PLAIN)
    assert [fine] == verifier.judge([view(good)], POOL)


def test_a_still_video_is_coherent_and_has_no_smoothness() -> None:
    still = view(moving_patch(rolling(pace=0)))
    assert TemporalCoherence().judge([still], POOL) == [Judgement(1.0)]
    assert MotionSmoothness().judge([still], POOL) == [Judgement(None)]
