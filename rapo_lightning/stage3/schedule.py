"""How the learning rate goes over a training."""

from __future__ import annotations

import math

import torch
from transformers import get_scheduler

from ..recipe import Optimizer

NAMES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
"""Transformers' name of each `stage3.optimizer.schedule`."""


def warmup_steps(settings: Optimizer, steps: int) -> int:
    """Optimizer steps with rising rate: the share of all, rounded up as transformers does.

    Args:
        settings: The optimizer.
        steps: Optimizer steps of the whole training.
    """
    return math.ceil(steps * settings.warmup_share)


def learning_rates(
    optimizer: torch.optim.Optimizer, settings: Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule, to be stepped after every optimizer step.

    Args:
        optimizer: Its groups have the peak rate.
        settings: The recipe's.
        steps: Optimizer steps of the whole training.
    """
    return get_scheduler(NAMES[settings.schedule], optimizer, warmup_steps(settings, steps), steps)
