"""The engine `lightning`: a Trainer with checkpoints within epochs, logs and learning rates."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from datamodules import PairDataModule

from ....console import say
from ....errors import UserError
from ....running.callbacks import EndWhenAsked
from ....running.fellows import together
from ....running.interruption import INTERRUPTION
from ....running.strategies import ShardedBase
from ....running.trainer import make_trainer
from ...adapter import load_adapter
from ...memory import memory_told
from ...objectives import REFERENCE, Preferences
from ...packing import made_ready
from ..engine import Best, Engine, accumulation
from ..metrics import next_log
from ..plan import Plan
from .checkpoints import BEST, LAST, WholeFiles, checkpoint_callbacks, read_checkpoint
from .guards import TrainingGuard
from .module import RefinerModule
from .sharding import check_sharding


class LightningEngine(Engine):
    """Trains with `lightning.Trainer`, as the recipe's `trainer` says.

    Dropout is drawn by step, so that a resumed run ends with the same bits.
    """

    def __init__(self, plan: Plan) -> None:
        """Builds the Trainer.

        Raises:
            UserError: If the recipe's `trainer` cannot train a refiner.
        """
        super().__init__(plan)
        self.trainer = _trainer(plan)

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return self.trainer.strategy.root_device

    def is_finished(self) -> bool:
        """Whether its last epoch is on disk, or an early stop was.

        Raises:
            RunError: If `last.ckpt` is damaged.
        """
        if not (self.plan.checkpoints / LAST).is_file():
            return False
        last = read_checkpoint(self.plan.checkpoints / LAST)
        return bool(last["stopped"]) or (last["whole"] and last["epoch"] + 1 >= self.plan.phase.epochs)

    def fit(self, model: Any, data: PairDataModule) -> None:
        """Trains to the end, from the last checkpoint where there is one, in the middle of an epoch too.

        Args:
            model: A PEFT model, whose adapter `default` is trained.
            data: From `Plan.data`.
        """
        plan, trainer = self.plan, self.trainer
        objective = plan.kind(plan.recipe.stage3, data.form.tokenizer)  # type: ignore[attr-defined]
        if plan.start and isinstance(objective, Preferences):
            _add_reference(model)
        steps = plan.phase.epochs * data.steps
        module = RefinerModule(
            model, objective, plan.recipe.stage3.optimizer, plan.phase.lr, plan.recipe.seed, steps
        )  # fmt: skip
        say(
            f"{plan.phase.objective}: {len(data.training)} training and {len(data.validation)} validation pairs, "
            f"{plan.precision}, {plan.packing}"
        )
        if trainer.is_global_zero:
            # What a kill left of a checkpoint in the writing.
            for path in plan.checkpoints.glob("*.tmp"):
                path.unlink()
        last = plan.checkpoints / LAST
        resumed = last.is_file() and not plan.is_trial
        with (
            together(),
            INTERRUPTION.watched(),
            memory_told(plan.recipe.stage3, plan.pack_tokens),
            made_ready(model, plan.packing, self.device),
        ):
            trainer.fit(module, data, ckpt_path=str(last) if resumed else None)
        if REFERENCE in model.peft_config:
            model.delete_adapter(REFERENCE)

    def _read_best(self) -> dict[str, Any]:
        path = self.plan.checkpoints / BEST
        return read_checkpoint(path if path.is_file() else self.plan.checkpoints / LAST)

    def best(self) -> Best:
        """The epoch with the best validation, the last one where there is none.

        Raises:
            RunError: If its checkpoint is damaged.
        """
        found = self._read_best()
        return Best(found[self.plan.monitor[0]], int(found["epoch"]) + 1)

    def restore(self, model: Any) -> None:
        """Puts the weights of the best epoch into the adapter `default` of a PEFT model.

        Raises:
            RunError: If its checkpoint is damaged, or belongs to another adapter.
        """
        weights = self._read_best()["state_dict"]
        load_adapter(model, {name.removeprefix("model."): value for name, value in weights.items()})

    def barrier(self) -> None:
        """Waits until all processes of the training have come here."""
        with together():
            self.trainer.strategy.barrier()


def _add_reference(model: Any) -> None:
    """Keeps the adapter as it is now, frozen, beside the one that is trained."""
    model.add_adapter(REFERENCE, model.peft_config["default"])
    for name, parameter in model.named_parameters():
        if ".default." in name:
            model.get_parameter(name.replace(".default.", f".{REFERENCE}.")).data.copy_(parameter.data)
    model.set_adapter("default")


def _trainer(plan: Plan) -> lightning.Trainer:
    stage3 = plan.recipe.stage3
    options = {**plan.recipe.trainer, "precision": plan.precision}
    # A logger empties a folder that is there already, so every start gets its own.
    place: dict[str, Any] = {
        "save_dir": plan.folder / "logs",
        "name": "",
        "version": next_log(plan.folder, plan.identity),
    }
    logged = options.get("logger", True) is not False
    figure, mode = plan.monitor
    stops = stage3.patience and plan.monitored is not None
    stopping = [EarlyStopping(figure, patience=stage3.patience, mode=mode)] if stops else []
    trainer = make_trainer(
        options,
        [
            *([LearningRateMonitor("step")] if logged else []),
            TrainingGuard(plan.phase.lr, stage3.optimizer.spike),
            *stopping,
            *checkpoint_callbacks(plan.checkpoints, plan.monitored, stage3.checkpoint_steps),
            EndWhenAsked(),
        ],
        max_epochs=plan.phase.epochs,
        gradient_clip_val=stage3.optimizer.clip,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        logger=[CSVLogger(**place), TensorBoardLogger(**place)],
        plugins=[WholeFiles()],
    )
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy, ShardedBase)):
        raise UserError(
            "A refiner is trained on one device or with `trainer.strategy` ddp or fsdp2. Got "
            f"{plan.recipe.trainer.get('strategy')!r}; leave it out."
        )
    if isinstance(trainer.strategy, ShardedBase):
        check_sharding(stage3, chained=bool(plan.start))
    # A batch of the loaders is a whole step; this looks whether it can be shared out.
    accumulation(stage3.optimizer, trainer.world_size)
    return trainer
