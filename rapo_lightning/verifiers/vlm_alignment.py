"""A vision-language model as a verifier: it says what a video shows, and only then sees what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models import ModelPool, VisionLanguageModel, answer_and_choose
from ..models.usage import at_places
from ..prompting.chat import Messages
from ..prompting.judging import LOOK, before_score, critique_of, restated_in, second_turn, up_to_score
from ..prompting.text import one_line
from .base import Judgement, View
from .grading import CHOICES, graded
from .usable import unreadable

SHOWN_TOKENS = COMPARED_TOKENS = 128
"""Longest answers in tokens, ours; what a model says beyond them is cut off."""


@dataclass(frozen=True)
class VlmVerdict:
    """What a vision-language model says of a video.

    Attributes:
        shown: What the video shows.
        compared: What the request asks for and what of it is missing or wrong.
        score: 0..1, the mean over the probabilities of the scores 1 to 5; None where the model would say something else.
    """

    shown: str
    compared: str
    score: float | None


def _question(request: str, shown: str) -> Messages:
    return [
        {"role": "user", "content": LOOK},
        {"role": "assistant", "content": shown},
        {"role": "user", "content": second_turn(request)},
    ]


def look_and_compare(
    model: VisionLanguageModel, videos: Sequence[NDArray[np.uint8]], fps: float, requests: Sequence[str]
) -> list[VlmVerdict]:
    """Judges videos in two turns.

    Args:
        model: The judge.
        videos: RGB, `(frames, height, width, 3)`.
        fps: Their frames per second.
        requests: The user's request for each.
    """
    if not videos:
        return []
    looks: list[Messages] = [[{"role": "user", "content": LOOK}] for _ in videos]
    shown = model.answer(videos, fps, looks, SHOWN_TOKENS)
    questions = [_question(*pair) for pair in zip(requests, shown, strict=True)]
    said, likely = answer_and_choose(model, videos, fps, questions, COMPARED_TOKENS, up_to_score, CHOICES)
    compared = [before_score(text) for text in said]
    return [VlmVerdict(*values) for values in zip(shown, compared, graded(likely), strict=True)]


class VlmAlignment:
    """How far a video shows what the user asked for, 0..1, by the recipe's vision-language model, in two turns."""

    name = "vlm_alignment"
    uses = ("vision_language_model",)

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        """One judgement per video: what was seen, what is missing or wrong, and the request in the model's words."""
        judgements = [Judgement(None, unreadable(view.frames)) for view in views]
        readable = [index for index, judgement in enumerate(judgements) if not judgement.critique]
        if not readable:
            return judgements
        chosen = [views[index] for index in readable]
        videos, requests = [view.frames for view in chosen], [view.source_prompt for view in chosen]
        with at_places(readable):
            verdicts = look_and_compare(models.vision_language, videos, chosen[0].fps, requests)
        for index, verdict in zip(readable, verdicts, strict=True):
            critique = one_line(critique_of(verdict.shown, verdict.compared))
            judgements[index] = Judgement(verdict.score, critique, one_line(restated_in(verdict.compared)))
        return judgements
