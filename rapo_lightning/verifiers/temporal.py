"""The verifiers of a video's motion: whether frames follow from one another, and whether what moves moves smoothly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..models import ModelPool
from .base import Judgement, View
from .motion import Motion
from .motion_words import course_of
from .usable import PLAIN, is_plain, unmeasurable

_POOR = 0.5
"""Score below which a verifier of this file says what it saw (ours)."""


def _judge(view: View, score: Callable[[Motion], Judgement]) -> Judgement:
    """A judgement by the motion; a plain picture has score 0, and one frame or what is no video has none."""
    if view.motion is None:
        return Judgement(None, unmeasurable(view.frames))
    return Judgement(0.0, PLAIN) if is_plain(view.frames) else score(view.motion)


def _judge_all(views: Sequence[View], score: Callable[[Motion], Judgement]) -> list[Judgement]:
    # OpenCV releases the interpreter lock, so threads are enough.
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda view: _judge(view, score), views))


class TemporalCoherence:
    """How well the optical flow predicts each frame from the next, 0..1: `motion.coherence`.

    Rounded to tenths: smaller differences are noise, and Average Ranking would count them as full ranks. A still video has 1.
    """

    name = "temporal_coherence"

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        """One judgement per video."""
        return _judge_all(views, self._score)

    @staticmethod
    def _score(motion: Motion) -> Judgement:
        torn = motion.coherence < _POOR
        return Judgement(
            round(motion.coherence, 1), "The picture changes abruptly from frame to frame." if torn else ""
        )


class MotionSmoothness:
    """How evenly what moves moves, 0..1: `motion.smoothness`; None for a still video, which has no motion to score.

    Rounded to tenths, as `TemporalCoherence`.
    """

    name = "motion_smoothness"

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        """One judgement per video."""
        return _judge_all(views, self._score)

    @staticmethod
    def _score(motion: Motion) -> Judgement:
        if motion.smoothness is None:
            return Judgement(None)
        if motion.smoothness >= _POOR:
            return Judgement(round(motion.smoothness, 1))
        course = course_of(motion.velocity)
        how = "turns back" if course.turns > course.stops else "stops"
        often = max(course.turns, course.stops) > 2
        return Judgement(
            round(motion.smoothness, 1), f"The motion {how} again and again." if often else "The motion is jerky."
        )
