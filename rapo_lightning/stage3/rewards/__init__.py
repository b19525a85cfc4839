"""What GRPO is rewarded for: figures of a request and its refined prompt."""

from .base import Reward, RewardTools
from .service import Service
from .text import Faithfulness, Length, Model, Usable
from .weighted import WeightedRewards

__all__ = ["Faithfulness", "Length", "Model", "Reward", "RewardTools", "Service", "Usable", "WeightedRewards"]
