"""The protocol of a reward, and what it may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...models import ModelPool
from ...prompting.answers import Refined
from ...recipe import Recipe


@dataclass
class RewardTools:
    """What rewards may use beside their own parameters.

    Attributes:
        recipe: The recipe.
        folder: The run's folder, where records and videos go.
        models: The pool; whatever is borrowed works on the device of the training.
        reader: From `stage3.reader`; None where the recipe names none.
    """

    recipe: Recipe
    folder: Path
    models: ModelPool
    reader: Any = None


class Reward(Protocol):
    """Says how good refined prompts are; higher is better, on any scale, since groups of one request are compared."""

    name: str
    """Its name in the metrics."""
    uses: Sequence[str]
    """Models of the recipe that it borrows from the pool, such as `embedder`."""

    def rewards(self, refined: Sequence[Refined], tools: RewardTools) -> list[float]:
        """One finite number for each refined prompt, in order."""
