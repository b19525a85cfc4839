"""The verifiers of a round's prompt, which see no video, and several verifiers as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import UserError
from ..models import ModelPool
from .base import Judgement, Verifier, View


class TextFidelity:
    """Cosine of the user's prompt and the prompt of the round, full marks from `enough` on.

    A floor rather than a goal (the shape of Promptist's relevance reward): a rewrite must not lose the request, but the
    most literal rewrite is not the best one, and round 0 would always win.
    """

    name = "text_fidelity"
    uses = ("embedder",)

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


class WordCount:
    """Whether a prompt has no more words than the video model reads, nor none: a floor, best a gate of `stage2.ranking`.

    Full marks up to `most` words, then falling in a straight line to 0 at twice as many; likewise below `least`.
    """

    name = "word_count"

    def __init__(self, most: int = 120, least: int = 1) -> None:
        """Sets the limits.

        Args:
            most: Most words (PhyT2V's limit, that of the authors' script and of `stage2.max_words`).
            least: Fewest words (ours).

        Raises:
            UserError: Unless 1 <= least <= most.
        """
        if not 1 <= least <= most:
            raise UserError(f"`WordCount` needs 1 <= least <= most. Got least={least}, most={most}; correct one.")
        self.most, self.least = most, least

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        """One judgement per video."""
        return [self._judge(len(view.prompt.split())) for view in views]

    def _judge(self, count: int) -> Judgement:
        if self.least <= count <= self.most:
            return Judgement(1.0)
        few = count < self.least
        score = count / self.least if few else max(0.0, 2 - count / self.most)
        return Judgement(round(score, 3), f"The caption is too {'short' if few else 'long'}.")


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
