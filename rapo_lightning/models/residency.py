"""Decides which model is on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import torch

from ..prompting.chat import Messages, Sampling
from .base import LanguageModel, Movable

Model = TypeVar("Model", bound=Movable)


class Residency:
    """Moves models to the device when a phase needs them.

    With `"resident"` a model stays once it is there; with `"swap"` the one before goes back to the CPU first, which
    costs one move per phase and batch, never per prompt.
    """

    def __init__(self, device: torch.device, policy: Literal["resident", "swap"]) -> None:
        """Starts with an empty device."""
        self.device, self.policy = device, policy
        self._present: list[Movable] = []

    def use(self, model: Model) -> Model:
        """Returns `model`, loaded and on the device."""
        if model in self._present:
            return model
        if self.policy == "swap":
            for other in self._present:
                other.to(torch.device("cpu"))
            self._present.clear()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        model.to(self.device)
        self._present.append(model)
        return model


class OnDemand:
    """A language model that is loaded and moved when it is first asked; one that is never asked costs nothing."""

    def __init__(self, model: LanguageModel, residency: Residency) -> None:
        """Takes the model and who moves it."""
        self.model, self.residency, self.name = model, residency, model.name

    def load(self) -> None:
        """Loads the model."""
        self.model.load()

    def to(self, device: torch.device) -> None:
        """Moves the model."""
        self.model.to(device)

    def complete(
        self, conversations: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, count: int = 1
    ) -> list[list[str]]:
        """As `base.LanguageModel`."""
        return self.residency.use(self.model).complete(conversations, seeds, sampling, count)
