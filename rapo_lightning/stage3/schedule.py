"""How the learning rate goes."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_cosine_schedule_with_warmup

from ..recipe import Optimizer as Settings


def learning_rates(optimizer: Optimizer, settings: Settings, steps: int) -> LambdaLR:
    """Warm-up and cosine decay per step.

    Args:
        optimizer: The optimizer with its peak rate.
        settings: Settings.
        steps: Optimizer steps of the whole training.
    """
    return get_cosine_schedule_with_warmup(optimizer, math.ceil(steps * settings.warmup_share), steps)
