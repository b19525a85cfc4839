"""What judges a video: the verifier protocol and the verifiers that need no further model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..models.protocols import Embedder
from .flow import Flow


@dataclass(frozen=True)
class View:
    """A generated video with what it was meant to show.

    Attributes:
        source_prompt: The user's prompt.
        phys_law: The physical law, may be empty.
        prompt: The prompt that the video was generated from.
        frames: RGB, `(frames, height, width, 3)`.
        fps: Frames per second.
        flow: The video's optical flow.
    """

    source_prompt: str
    phys_law: str
    prompt: str
    frames: NDArray[np.uint8]
    fps: float
    flow: Flow


@dataclass(frozen=True)
class Judgement:
    """A verifier's word on one video: a score (None if it could not score) and what is wrong, if it says so."""

    score: float | None
    critique: str = ""


class Verifier(Protocol):
    """Scores videos; higher is better."""

    name: str
    """Name of its column, `score_<name>`."""

    def judge(self, views: Sequence[View], embedder: Embedder) -> list[Judgement]:
        """One judgement per video."""


class TemporalCoherence:
    """How well the optical flow of each frame predicts the next, 0..1.

    Rounded to tenths: smaller differences are noise, and Average Ranking would count them as full ranks.
    """

    name = "temporal_coherence"

    def judge(self, views: Sequence[View], embedder: Embedder) -> list[Judgement]:
        """One judgement per video."""
        return [Judgement(round(view.flow.coherence, 1)) for view in views]


class TextFidelity:
    """Cosine of the user's prompt and the prompt of the round, full marks from `enough` on.

    A floor rather than a goal (the shape of Promptist's relevance reward): a rewrite must not lose the request, but the
    most literal rewrite is not the best one, and round 0 would always win.
    """

    name = "text_fidelity"

    def __init__(self, enough: float = 0.5) -> None:
        """Sets the cosine that counts as faithful.

        Args:
            enough: Cosine in 0..1 from which the score is 1 (ours).
        """
        self.enough = enough

    def judge(self, views: Sequence[View], embedder: Embedder) -> list[Judgement]:
        """One judgement per video."""
        sources = embedder.encode([view.source_prompt for view in views])
        prompts = embedder.encode([view.prompt for view in views])
        cosines = (sources * prompts).sum(axis=1)
        return [Judgement(round(float(np.clip(cosine / self.enough, 0, 1)), 3)) for cosine in cosines]
