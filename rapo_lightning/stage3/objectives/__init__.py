"""What a refiner can be trained for; `engines` has what trains it."""

from .base import Engine, Loss, Objective
from .preference import REFERENCE, Dpo, PreferenceAccuracy, Preferences
from .supervised import Sft, WeightedSft

OBJECTIVES: dict[str, type[Objective]] = {item.name: item for item in (Sft, WeightedSft, Dpo)}
"""The objectives by name."""

__all__ = [
    "OBJECTIVES", "REFERENCE", "Dpo", "Engine", "Loss", "Objective", "PreferenceAccuracy", "Preferences", "Sft", "WeightedSft",
]  # fmt: skip
