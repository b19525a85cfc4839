"""The verifiers that need no judge: of the video's motion, and of the prompt's faithfulness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..models import ModelPool
from .base import Judgement, Verifier, View


class TemporalCoherence:
    """How well the optical flow of each frame predicts the next, 0..1.

    Rounded to tenths: smaller differences are noise, and Average Ranking would count them as full ranks.
    """

    name = "temporal_coherence"

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
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

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        """One judgement per video."""
        embedder = models.embedder
        sources = embedder.encode([view.source_prompt for view in views])
        prompts = embedder.encode([view.prompt for view in views])
        cosines = (sources * prompts).sum(axis=1)
        return [Judgement(round(float(np.clip(cosine / self.enough, 0, 1)), 3)) for cosine in cosines]


class MeanOfVerifiers:
    """The loop's verifiers as one: the mean of their scores, the paper's S(v)."""

    name = "mean"

    def __init__(self, verifiers: Sequence[Verifier]) -> None:
        """Takes the verifiers."""
        self.verifiers = verifiers

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        """One judgement per video."""
        scores = [[item.score for item in verifier.judge(views, models)] for verifier in self.verifiers]
        known = [[value for value in column if value is not None] for column in zip(*scores, strict=True)]
        return [Judgement(sum(values) / len(values) if values else None) for values in known]
