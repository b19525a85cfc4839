"""A vision-language model as a verifier: it says what a video shows, and only then sees what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models import VisionLanguageModel
from ..prompting.chat import Messages
from ..prompting.judging import LOOK, SCORE_MARK, SCORES, before_score, second_turn

SHOWN_TOKENS = COMPARED_TOKENS = 128
"""Longest answers in tokens, ours; what a model says beyond them is cut off."""
_ENOUGH = 0.5
"""Least probability of the five scores together for which their mean says anything."""


@dataclass(frozen=True)
class VlmVerdict:
    """What a vision-language model says of a video.

    Attributes:
        shown: What the video shows.
        compared: What the request asks for and what of it is missing or wrong.
        score: Mean over the probabilities of the scores 1 to 5; None where the model would say something else.
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
    compared = [before_score(text) for text in model.answer(videos, fps, questions, COMPARED_TOKENS)]
    openings = [f"{text} {SCORE_MARK}".lstrip() for text in compared]
    likely = model.choose(videos, fps, questions, openings, [str(score) for score in SCORES])
    totals = likely.sum(axis=1)
    means = (likely @ np.array(SCORES)) / np.maximum(totals, 1e-12)
    scores = [float(mean) if total >= _ENOUGH else None for mean, total in zip(means, totals, strict=True)]
    return [VlmVerdict(*values) for values in zip(shown, compared, scores, strict=True)]
