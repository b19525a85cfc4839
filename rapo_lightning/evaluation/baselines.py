"""Baselines: plain ways of writing a text for a video model that a method has to be better than."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from ..data.prompts import Prompt
from ..models import ModelPool
from ..prompting.judging import restated_in
from ..prompting.text import one_line
from ..verifiers.vlm_alignment import look_and_compare

_NOTHING = np.full((8, 64, 64, 3), 128, np.uint8)
"""A grey clip for a judge to look at where its reading of a request is all that is wanted: frames, height, width, RGB."""
_FPS = 4.0


class Baseline(Protocol):
    """Makes texts of prompts; a recipe names one in `evaluation.baselines`."""

    def texts(self, prompts: Sequence[Prompt], models: ModelPool) -> list[str]:
        """One text per prompt, a function of that prompt alone; a model that it needs is borrowed (`models.language`)."""


class StyleFrame:
    """The user's own words between the opening and the closing of the training captions."""

    def __init__(self, prefix: str = "", suffix: str = "") -> None:
        """Takes the frame.

        Args:
            prefix: What stands before the prompt.
            suffix: What stands after it.
        """
        self.prefix, self.suffix = prefix, suffix

    def texts(self, prompts: Sequence[Prompt], models: ModelPool) -> list[str]:
        """The framed prompts, without the punctuation at their ends."""
        return [f"{self.prefix}{prompt.text.strip(' .,;:!?')}{self.suffix}" for prompt in prompts]


class Restated(StyleFrame):
    """The request in the judge's words, in that frame: what these words alone are worth, without a loop or a refiner.

    The judge looks at a grey clip, and where it does not restate a request (`prompting.judging.restated_in`) the user's own words
    stand.
    """

    uses = ("vision_language_model",)

    def texts(self, prompts: Sequence[Prompt], models: ModelPool) -> list[str]:
        """The framed requests; `models.vision_language` is the judge."""
        verdicts = look_and_compare(
            models.vision_language, [_NOTHING] * len(prompts), _FPS, [prompt.text for prompt in prompts]
        )
        said = [one_line(restated_in(verdict.compared)) for verdict in verdicts]
        return super().texts(
            [replace(prompt, text=text or prompt.text) for prompt, text in zip(prompts, said, strict=True)], models
        )
