"""Baselines: plain ways of writing a text for a video model that a method has to be better than."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..data.prompts import Prompt
from ..models import ModelPool


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
