"""What trains an adapter by a plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datamodules import PairDataModule

from ...errors import UserError
from ...recipe import Optimizer as Settings
from ..schedule import learning_rates
from .plan import Plan


@dataclass(frozen=True)
class Best:
    """The epoch that is exported.

    Attributes:
        figure: Its value of `stage3.best_by`, NaN if there was no validation.
        epoch: Its number, from 1.
    """

    figure: float
    epoch: int


class Engine(ABC):
    """An engine with one training; making it checks all that can be checked without a model."""

    def __init__(self, plan: Plan) -> None:
        """Takes the training.

        Raises:
            UserError: If this engine cannot do it.
        """
        self.plan = plan

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where this process trains."""

    @abstractmethod
    def is_finished(self) -> bool:
        """Whether its last epoch is on disk, or an early stop was.

        Raises:
            RunError: If the checkpoint is damaged.
        """

    @abstractmethod
    def fit(self, model: Any, data: PairDataModule) -> None:
        """Trains to the end, from the last checkpoint where there is one, in the middle of an epoch too.

        Args:
            model: A PEFT model, whose adapter `default` is trained.
            data: From `Plan.data`.
        """

    @abstractmethod
    def best(self) -> Best:
        """The epoch with the best validation, the last one where there is none.

        Raises:
            RunError: If its checkpoint is damaged.
        """

    @abstractmethod
    def restore(self, model: Any) -> None:
        """Puts the weights of the best epoch into the adapter `default` of a PEFT model.

        Raises:
            RunError: If its checkpoint is damaged, or belongs to another adapter.
        """

    @abstractmethod
    def barrier(self) -> None:
        """Waits until all processes of the training have come here."""


def accumulation(settings: Settings, world: int) -> int:
    """Micro-batches per optimizer step.

    Args:
        settings: Batch sizes.
        world: Number of devices.

    Raises:
        UserError: If the batch cannot be shared out.
    """
    if settings.batch_size % (settings.micro_batch_size * world):
        raise UserError(
            "`stage3.optimizer.batch_size` must be a multiple of micro_batch_size times the number of devices. Got "
            f"{settings.batch_size}, {settings.micro_batch_size} and {world}; change one of them."
        )
    return settings.batch_size // (settings.micro_batch_size * world)


def optimization(model: Any, settings: Settings, lr: float, steps: int) -> tuple[Optimizer, LRScheduler]:
    """AdamW over the trained parameters, and its rates per step; the same for every engine.

    Args:
        model: What has the parameters.
        settings: Settings.
        lr: Peak learning rate.
        steps: Optimizer steps of the whole training.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AdamW(trained, lr=lr, weight_decay=settings.weight_decay)
    return optimizer, learning_rates(optimizer, settings, steps)
