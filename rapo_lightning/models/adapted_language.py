"""A language model with one of the adapters that share its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..prompting.chat import Messages, Sampling

if TYPE_CHECKING:
    from .transformers_language import TransformersLanguageModel


class AdaptedLanguageModel:
    """A language model with an adapter switched on; its weights are those of `base`."""

    def __init__(self, base: TransformersLanguageModel, adapter: str) -> None:
        """Takes the base and the adapter's PEFT folder; nothing is loaded."""
        self.base, self.adapter, self.name = base, adapter, base.name
        self.quantization = base.quantization

    def load(self) -> None:
        """Loads the base."""
        self.base.load()

    def to(self, device: torch.device) -> None:
        """Moves the base."""
        self.base.to(device)

    def complete(
        self, conversations: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, count: int = 1
    ) -> list[list[str]]:
        """`count` answers per conversation; see `base.LanguageModel`."""
        self.base.switch(self.adapter)
        return self.base.answer(conversations, seeds, sampling, count)

    def choose(
        self, conversations: Sequence[Messages], openings: Sequence[str], choices: Sequence[str]
    ) -> NDArray[np.float64]:
        """Probabilities of how answers go on; see `base.LanguageModel`."""
        self.base.switch(self.adapter)
        return self.base.likelihoods(conversations, openings, choices)

    def count_tokens(self, text: str) -> int:
        """As the base."""
        return self.base.count_tokens(text)
