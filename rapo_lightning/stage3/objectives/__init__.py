"""What a refiner can be trained for; `engines` has what trains it."""

from .base import Engine, Loss, Objective
from .grpo import Grpo
from .preference import REFERENCE, Dpo, PreferenceAccuracy, Preferences
from .supervised import Sft, WeightedSft
from .trl_only import Kto, Reward

OBJECTIVES: dict[str, type[Objective]] = {item.name: item for item in (Sft, WeightedSft, Dpo, Kto, Reward, Grpo)}
"""The objectives by name."""

__all__ = [
    "OBJECTIVES", "REFERENCE", "Dpo", "Engine", "Grpo", "Kto", "Loss", "Objective", "PreferenceAccuracy", "Preferences", "Reward", "Sft",
    "WeightedSft",
]  # fmt: skip
