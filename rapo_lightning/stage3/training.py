"""One training of a refiner: what it is made of, where it stands, and how it goes on after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from datamodules import PairDataModule

from ..console import say
from ..errors import UserError
from ..prompting.pairs import SftPair
from ..recipe import Optimizer, Recipe
from ..recipe.identity import digest
from ..running.callbacks import EndWhenAsked
from ..running.interruption import INTERRUPTION
from ..running.trainer import make_trainer, training_precision
from .checkpoints import BEST, LAST, WholeFiles, checkpoint_callbacks, read_checkpoint
from .metrics import next_log
from .module import RefinerModule

_SHAPE_RESULT = ("callbacks", "gradient_clip_algorithm", "gradient_clip_val", "limit_train_batches", "overfit_batches")
"""Options of `trainer` that change what is learned; devices and loggers do not."""

_NOT_IN_WEIGHTS = ("system", "runs", "pairs", "reader", "views", "sampling", "checkpoint_steps")
"""Settings of stage 3 that do not change what is learned: the pairs are counted as they are, with their instruction."""


@dataclass(frozen=True)
class Best:
    """The epoch that is exported.

    Attributes:
        weights: State of `RefinerModule`.
        val_loss: Its validation loss, NaN if there was none.
        epoch: Its number, from 1.
    """

    weights: dict[str, Any]
    val_loss: float
    epoch: int


def accumulation(settings: Optimizer, world: int) -> int:
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


class Training:
    """A training and its folder of checkpoints; nothing is loaded or written by making one."""

    def __init__(self, recipe: Recipe, folder: Path, base_identity: str, pairs: Sequence[SftPair]) -> None:
        """Names the training by what it is made of.

        Args:
            recipe: The recipe.
            folder: The run's folder.
            base_identity: `checkpoints.identity` of the base model.
            pairs: All pairs, of training and validation.
        """
        self.recipe, self.folder = recipe, folder
        self.precision = training_precision(recipe.trainer)
        settings = {name: value for name, value in asdict(recipe.stage3).items() if name not in _NOT_IN_WEIGHTS}
        options = {name: recipe.trainer[name] for name in _SHAPE_RESULT if name in recipe.trainer}
        parts = [settings, options, self.precision, recipe.seed, base_identity, [asdict(pair) for pair in pairs]]
        self.identity = digest(parts)
        self.checkpoints = folder / "checkpoints" / self.identity
        self.is_trial = bool(recipe.trainer.get("fast_dev_run"))
        """Whether a few batches are tried and nothing is kept."""

    def is_finished(self) -> bool:
        """Whether its last epoch is on disk, or an early stop was.

        Raises:
            RunError: If `last.ckpt` is damaged.
        """
        if not (self.checkpoints / LAST).is_file():
            return False
        last = read_checkpoint(self.checkpoints / LAST)
        return bool(last["stopped"]) or (last["whole"] and last["epoch"] + 1 >= self.recipe.stage3.epochs)

    def best(self) -> Best:
        """The epoch with the lowest validation loss, the last one where there is none.

        Raises:
            RunError: If its checkpoint is damaged.
        """
        path = self.checkpoints / BEST
        found = read_checkpoint(path if path.is_file() else self.checkpoints / LAST)
        return Best(found["state_dict"], found["val_loss"], int(found["epoch"]) + 1)

    def trainer(self, has_validation: bool) -> lightning.Trainer:
        """A Trainer with the checkpoints, logs and learning rates of this training.

        Args:
            has_validation: Whether there are validation pairs.

        Raises:
            UserError: If the recipe's `trainer` cannot train a refiner.
        """
        options = {**self.recipe.trainer, "precision": self.precision}
        # A logger empties a folder that is there already, so every start gets its own.
        place: dict[str, Any] = {
            "save_dir": self.folder / "logs",
            "name": "",
            "version": next_log(self.folder, self.identity),
        }
        logged = options.get("logger", True) is not False
        trainer = make_trainer(
            options,
            [
                *([LearningRateMonitor("step")] if logged else []),
                *checkpoint_callbacks(self.checkpoints, has_validation, self.recipe.stage3.checkpoint_steps),
                EndWhenAsked(),
            ],
            max_epochs=self.recipe.stage3.epochs,
            gradient_clip_val=1.0,
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            logger=[CSVLogger(**place), TensorBoardLogger(**place)],
            plugins=[WholeFiles()],
        )
        if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
            raise UserError(
                "A refiner is trained on one device or with `trainer.strategy: ddp`. Got "
                f"{self.recipe.trainer.get('strategy')!r}; leave it out."
            )
        trainer.accumulate_grad_batches = accumulation(self.recipe.stage3.optimizer, trainer.world_size)
        return trainer

    def fit(self, trainer: lightning.Trainer, base: Any, data: PairDataModule) -> RefinerModule:
        """Trains to the end, from the last checkpoint where there is one, in the middle of an epoch too.

        Args:
            trainer: From `trainer`.
            base: The base model.
            data: The pairs.

        Returns:
            The module as the last epoch left it.
        """
        stage3 = self.recipe.stage3
        steps = stage3.epochs * data.steps(trainer.accumulate_grad_batches, trainer.world_size)
        module = RefinerModule(base, stage3, self.recipe.seed, steps)
        if self.is_finished() and not self.is_trial:
            return module
        say(f"{len(data.training)} training and {len(data.validation)} validation pairs, {self.precision}")
        if trainer.is_global_zero:
            # What a kill left of a checkpoint in the writing.
            for path in self.checkpoints.glob("*.tmp"):
                path.unlink()
        last = self.checkpoints / LAST
        resumed = last.is_file() and not self.is_trial
        with INTERRUPTION.watched():
            trainer.fit(module, data, ckpt_path=str(last) if resumed else None)
        return module
