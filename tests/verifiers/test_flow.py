from __future__ import annotations

import cv2
import numpy as np
import pytest

from rapo_lightning.verifiers.flow import mean_flow
from tests.verifiers.clips import BAD, moving_patch, rolling, view


def authors_flow(frames: np.ndarray, fps: float, seconds: float) -> list[tuple[float, float]]:
    """The figures of the authors' script, by OpenCV alone: grey frames `int(fps * seconds)` apart, mean of all pixels."""
    sampled = [cv2.cvtColor(frame[..., ::-1].copy(), cv2.COLOR_BGR2GRAY) for frame in frames[:: int(fps * seconds)]]
    means = []
    for first, second in zip(sampled[:-1], sampled[1:], strict=True):
        flow = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        means.append((float(np.mean(flow[..., 0])), float(np.mean(flow[..., 1]))))
    return means


@pytest.mark.parametrize(("fps", "seconds"), [(8.0, 0.5), (15.0, 0.5), (8.0, 0.125)])
def test_means_are_those_of_a_direct_opencv_call(fps: float, seconds: float) -> None:
    # 15 frames per second and half a second are 7 frames: cut, not rounded.
    frames = moving_patch(rolling(33, pace=0.1))
    means = mean_flow(frames, fps, seconds)
    assert len(means) == (len(frames) - 1) // int(fps * seconds)
    np.testing.assert_allclose(means, authors_flow(frames, fps, seconds), atol=1e-3)


def test_means_are_those_of_a_motion_that_is_known() -> None:
    pattern = np.random.default_rng(3).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    wide = cv2.resize(pattern, (300, 200), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([wide[20 + 1 * n : 180 + 1 * n, 60 - 2 * n : 280 - 2 * n] for n in range(6)])
    means = np.array(mean_flow(frames, 8.0, 0.125))
    # The whole picture goes 2 px to the right and 1 px up; its edges are lost.
    np.testing.assert_allclose(means.mean(axis=0), [2, -1], atol=0.25)


def test_the_interval_is_one_frame_at_least() -> None:
    assert len(mean_flow(moving_patch(rolling(5)), 8.0, 0.01)) == 4


@pytest.mark.parametrize("kind", sorted(BAD))
def test_bad_videos_have_no_flow_and_say_why(kind: str) -> None:
    bad = view(BAD[kind])
    assert bad.flow == []
    assert bad.motion is None
    assert bad.motion_words.startswith("The video ")


def test_a_still_video_has_no_motion() -> None:
    still = view(moving_patch(rolling(17, pace=0)))
    np.testing.assert_allclose(still.flow, np.zeros((4, 2)), atol=1e-3)
    assert still.motion_words == "Nothing moves."
