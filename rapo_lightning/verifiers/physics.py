"""A language model grades whether a video's motion, measured and put in words, agrees with the prompt's law of physics."""

from __future__ import annotations

from collections.abc import Sequence

from ..models import ModelPool
from ..models.usage import at_places
from ..prompting.chat import Messages
from ..prompting.judging import SCORE_MARK
from ..prompting.templates import template
from ..prompting.text import one_line
from .base import Judgement, View
from .grading import CHOICES, graded
from .usable import PLAIN, is_plain, unmeasurable


def physics_question(law: str, motion: str) -> Messages:
    """The conversation that asks for a grade; the request is no part of it, so that it cannot ask for one.

    Args:
        law: The law of physics.
        motion: The motion in words.
    """
    asked = template("verifiers", "physics_user").format(law=one_line(law), motion=motion)
    return [
        {"role": "system", "content": template("verifiers", "physics_system")},
        {"role": "user", "content": asked},
    ]


class Physics:
    """How well the motion agrees with the law, 0..1, by the recipe's language model; None where the prompt has no law.

    The authors' script shows the model mean displacements in px; here it reads `motion_words`. The remark that the loop asks for
    (`stage2.physics`) is another thing: a sentence for the rewriter, not a score.
    """

    name = "physics"
    uses = ("language_model",)

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        """One judgement per video."""
        judgements = [_without_model(view) for view in views]
        asked = [index for index, judgement in enumerate(judgements) if judgement is None]
        if asked:
            questions = [physics_question(views[index].phys_law, views[index].motion_words) for index in asked]
            with at_places(asked):
                likely = models.language.choose(questions, [SCORE_MARK] * len(asked), CHOICES)
            for index, score in zip(asked, graded(likely), strict=True):
                judgements[index] = Judgement(score)
        return [judgement or Judgement(None) for judgement in judgements]


def _without_model(view: View) -> Judgement | None:
    """The judgement of a video that the model need not be asked about."""
    if not view.phys_law:
        return Judgement(None)
    fault = unmeasurable(view.frames)
    if fault:
        return Judgement(None, fault)
    return Judgement(0.0, PLAIN) if is_plain(view.frames) else None
