"""What a verifier sees, what it answers, and the protocol that every verifier follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..models import ModelPool
from .flow import mean_flow
from .motion import Motion, measure_motion
from .motion_words import motion_words
from .usable import unmeasurable, unreadable


@dataclass(frozen=True)
class View:
    """A generated video with what it was meant to show.

    Attributes:
        source_prompt: The user's prompt.
        phys_law: The physical law, may be empty.
        prompt: The prompt that the video was generated from.
        frames: RGB, `(frames, height, width, 3)`.
        fps: Frames per second.
        flow_seconds: Time between two frames of the optical flow.
    """

    source_prompt: str
    phys_law: str
    prompt: str
    frames: NDArray[np.uint8]
    fps: float
    flow_seconds: float

    @cached_property
    def flow(self) -> list[tuple[float, float]]:
        """The video's mean flow (`flow.mean_flow`), measured when it is first asked for; empty where there is none."""
        return [] if unreadable(self.frames) else mean_flow(self.frames, self.fps, self.flow_seconds)

    @cached_property
    def motion(self) -> Motion | None:
        """The video's motion, measured when it is first asked for; None for a single frame or what is no video."""
        return None if unmeasurable(self.frames) else measure_motion(self.frames, self.fps)

    @property
    def motion_words(self) -> str:
        """The motion in words, or what keeps it from being measured."""
        return motion_words(self.motion) if self.motion else unmeasurable(self.frames)


@dataclass(frozen=True)
class Judgement:
    """A verifier's word on one video.

    Attributes:
        score: Its score; None if it could not score.
        critique: What is wrong, if it says so.
        restated: The request in its own words, if it says so.
    """

    score: float | None
    critique: str = ""
    restated: str = ""


class Verifier(Protocol):
    """Scores videos; higher is better."""

    name: str
    """Name of its column, `score_<name>`."""

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        """One judgement per video; a model that a verifier needs is borrowed from the pool (`models.embedder`)."""
