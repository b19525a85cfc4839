"""A vision-language model grades a video's objects, actions and scene, each by itself, after it said what the video shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..models import ModelPool, VisionLanguageModel, answer_and_choose
from ..models.usage import at_places
from ..prompting.chat import Messages
from ..prompting.judging import LOOK, before_score, up_to_score
from ..prompting.templates import table, template
from ..prompting.text import one_line
from .base import Judgement, View
from .grading import CHOICES, FINE, graded
from .usable import unreadable

ASPECTS = tuple(row[0] for row in table("verifiers", "aspects"))
"""The aspects that can be graded."""
SHOWN_TOKENS, REMARK_TOKENS = 128, 48
"""Longest description and longest remark on an aspect in tokens (ours); what a model says beyond them is cut off."""


def aspect_question(request: str, shown: str, aspect: str) -> Messages:
    """The conversation that asks for an aspect's grade; the description stands before the request.

    Args:
        request: The user's prompt.
        shown: What the model said that the video shows.
        aspect: One of `ASPECTS`.
    """
    meaning = next(row[1] for row in table("verifiers", "aspects") if row[0] == aspect)
    asked = template("verifiers", "aspect").format(request=one_line(request), aspect=aspect, meaning=meaning)
    return [
        {"role": "user", "content": LOOK},
        {"role": "assistant", "content": shown},
        {"role": "user", "content": asked},
    ]


class VlmAspects:
    """How well a video shows what the user asked for, 0..1: the mean grade of some aspects, by the recipe's vision-language model.

    Named `vlm_<aspect>` where it grades one, so that a recipe that lists it once per aspect has a score column, and a vote, for
    each; else `vlm_aspects`. The video is looked at once for all of its aspects.
    """

    name: str
    uses = ("vision_language_model",)

    def __init__(self, aspects: Sequence[str] = ASPECTS) -> None:
        """Chooses the aspects.

        Args:
            aspects: Those to grade, of `objects`, `actions` and `scene` (what the authors' script asks its judge to consider).

        Raises:
            UserError: If there is none, or one is unknown or named twice.
        """
        if not aspects or not set(aspects) <= set(ASPECTS) or len(set(aspects)) < len(aspects):
            raise UserError(
                f"`VlmAspects` takes aspects of {', '.join(ASPECTS)}, each once. Got {list(aspects)}; name one at least."
            )
        self.aspects = tuple(aspects)
        self.name = f"vlm_{self.aspects[0]}" if len(self.aspects) == 1 else "vlm_aspects"

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        """One judgement per video."""
        judgements = [Judgement(None, unreadable(view.frames)) for view in views]
        readable = [index for index, judgement in enumerate(judgements) if not judgement.critique]
        if readable:
            chosen = [views[index] for index in readable]
            with at_places(readable):
                found = self._grade(chosen, models.vision_language)
            for index, judgement in zip(readable, found, strict=True):
                judgements[index] = judgement
        return judgements

    def _grade(self, views: Sequence[View], model: VisionLanguageModel) -> list[Judgement]:
        videos, fps = [view.frames for view in views], views[0].fps
        looks: list[Messages] = [[{"role": "user", "content": LOOK}] for _ in views]
        shown = model.answer(videos, fps, looks, SHOWN_TOKENS)
        graded_aspects = [self._grade_aspect(aspect, views, videos, shown, model) for aspect in self.aspects]
        return [_joined(answers) for answers in zip(*graded_aspects, strict=True)]

    @staticmethod
    def _grade_aspect(
        aspect: str,
        views: Sequence[View],
        videos: Sequence[NDArray[np.uint8]],
        shown: Sequence[str],
        model: VisionLanguageModel,
    ) -> list[Judgement]:
        questions = [aspect_question(view.source_prompt, said, aspect) for view, said in zip(views, shown, strict=True)]
        said, likely = answer_and_choose(
            model, videos, views[0].fps, questions, REMARK_TOKENS, lambda text: up_to_score(one_line(text)), CHOICES
        )
        remarks = [one_line(before_score(text)) for text in said]
        return [Judgement(*pair) for pair in zip(graded(likely), remarks, strict=True)]


def _joined(answers: Sequence[Judgement]) -> Judgement:
    """One judgement of a video: the mean of the grades there are, and the remarks on what is not fine."""
    known = [answer.score for answer in answers if answer.score is not None]
    remarks = [answer.critique for answer in answers if answer.score is not None and answer.score < FINE]
    score = round(sum(known) / len(known), 3) if known else None
    return Judgement(score, " ".join(text for text in remarks if text))
