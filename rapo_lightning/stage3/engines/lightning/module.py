"""The refiner as a LightningModule: a frozen language model with a LoRA adapter that is trained for an objective."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor
from torchmetrics import MeanMetric

from datamodules.pairs import Batch

from ....data.ids import derived_seed
from ....recipe import Optimizer
from ....running.strategies import ShardedBase
from ...adapter import load_adapter
from ...objectives import Loss, Objective, PreferenceAccuracy
from ..engine import optimization
from .guards import look_at_step
from .sharding import shard_base


class RefinerModule(lightning.LightningModule):
    """Trains an adapter; checkpoints hold the adapter alone.

    The loss of an optimizer step is the sum of the losses of all its forward passes on all devices, divided by the number of
    what they count, completion tokens or pairs (the rule of TRL's trainers). So is the validation loss over all pairs.
    """

    def __init__(
        self, model: Any, objective: Objective, settings: Optimizer, lr: float, seed: int, steps: int = 1
    ) -> None:
        """Takes the model and what it is trained for.

        Args:
            model: A PEFT model.
            objective: The objective.
            settings: Of the optimizer.
            lr: Peak learning rate.
            seed: Seed of the dropout.
            steps: Optimizer steps of the whole training, the length of the learning rate's schedule.
        """
        super().__init__()
        self.model, self.objective, self.settings = model, objective, settings
        self.lr, self.seed, self.steps = lr, seed, steps
        self.accuracy = PreferenceAccuracy(objective.stage3, objective.tokenizer)
        # The base's weights are not in the checkpoint; `load_state_dict` below checks what is.
        self.strict_loading = False
        # By default these leave out what is no number, and a mean would look well.
        self.val_loss, self.val_preference = MeanMetric(nan_strategy=math.inf), MeanMetric()
        self.sums = torch.zeros(2)
        """Loss of the step in the making so far, and what it counts, on this device."""
        self.epoch_sums = [0.0, 0.0]
        """The same of the epoch's steps, on all devices; part of the checkpoints."""

    def configure_model(self) -> None:
        """Shards the base over the devices where the strategy asks for it; Lightning calls it when these are there."""
        if isinstance(self.trainer.strategy, ShardedBase):
            shard_base(self.model, self.trainer.strategy.device_mesh["data_parallel"])

    def on_train_batch_start(self, batch: list[Batch], batch_idx: int) -> None:
        """Seeds the dropout by step, so that a resumed run draws the same masks."""
        torch.manual_seed(derived_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: list[Batch], batch_idx: int) -> Tensor:
        """A step's forward passes; their losses are sums, and `on_before_optimizer_step` divides.

        Steps have unequal numbers of them, so Lightning's own accumulation will not do. All backward passes but the last are
        done here, and Lightning does that one: what DistributedDataParallel adds up over the devices is then the whole step.
        """
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        for part in batch[:-1]:
            total = self._added(part)
            with torch.autocast(total.device.type, enabled=False):
                self.trainer.strategy.backward(total, None)
        return self._added(batch[-1])

    def _added(self, part: Batch) -> Tensor:
        """The loss of a forward pass, which `sums` counts."""
        found = self.objective.loss(self.model, part)
        self.sums = self.sums.to(found.total.device) + torch.stack([found.total.detach(), found.count])
        return found.total

    def optimizer_zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `training_step` has done it, before its backward passes."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divides the gradients by what the step counts, before they are clipped."""
        total, counted = self.trainer.strategy.reduce(self.sums, reduce_op="sum")
        self.log("train_loss_step", total / counted.clamp(min=1), prog_bar=True)
        self.epoch_sums = [self.epoch_sums[0] + float(total), self.epoch_sums[1] + float(counted)]
        if isinstance(self.trainer.strategy, ShardedBase):
            self.trainer.strategy.average_gradients(optimizer)
        # The strategy has divided by the number of devices.
        factor = self.trainer.world_size / counted.clamp(min=1)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        self.sums = torch.zeros(2, device=self.device)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Has the gradients looked at, which are divided by now, and clips them."""
        look_at_step(self.trainer, optimizer)
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def validation_step(self, batch: list[Batch], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Logs the loss, and the share of preferred rounds, on prompts that are not trained on."""
        for part in batch:
            # The second loader has preferences, where the objective itself learns from something else.
            found: Loss = (self.accuracy if dataloader_idx else self.objective).loss(self.model, part)
            if not dataloader_idx:
                self.val_loss.update(found.total / found.count.clamp(min=1), found.count.float())
                self.log("val_loss", self.val_loss, prog_bar=True, add_dataloader_idx=False)
            if "preference" in found.shares:
                preferred, of = found.shares["preference"]
                self.val_preference.update(preferred / of.clamp(min=1), of.float())
                self.log("val_preference", self.val_preference, prog_bar=True, add_dataloader_idx=False)

    def on_train_epoch_end(self) -> None:
        """Logs the mean loss of the epoch, of what it did before it was killed too."""
        self.log("train_loss_epoch", self.epoch_sums[0] / max(self.epoch_sums[1], 1.0), prog_bar=True)
        self.epoch_sums = [0.0, 0.0]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on with the sums of an epoch that was cut off."""
        self.epoch_sums = list(checkpoint["epoch_sums"])

    def configure_optimizers(self) -> Any:
        """AdamW over the adapter, with its schedule per step."""
        optimizer, schedule = optimization(self.model, self.settings, self.lr, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes what a later start asks of a checkpoint: its validation, and whether epoch and training ended."""
        callbacks = [item for item in self.trainer.callbacks if isinstance(item, EarlyStopping)]  # type: ignore[attr-defined]
        for name in ("val_loss", "val_preference"):
            checkpoint[name] = float(self.trainer.callback_metrics.get(name, math.nan))
        checkpoint["epoch_sums"] = self.epoch_sums
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        checkpoint["whole"] = progress.ready >= self.trainer.num_training_batches
        checkpoint["stopped"] = any(callback.stopped_epoch for callback in callbacks)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The trained parameters alone."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if name in trained}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Loads an adapter.

        Raises:
            RunError: If its keys are not exactly those of this adapter.
        """
        prefix = "model."
        load_adapter(self.model, {name.removeprefix(prefix): value for name, value in state_dict.items()})
