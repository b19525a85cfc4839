"""What watches over a training: it stops where the loss is no number any more, and passes over steps that stick out."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

import lightning
import torch
from torch import Tensor

from ....console import say
from ....errors import RunError

WINDOW, LEAST = 50, 10
"""Norms that the running median is over, and how many there must be before one can stick out (ours)."""


class SpikeRule:
    """Which gradients stick out: those whose norm is more than `times` the median of the last `WINDOW` steps' (ours).

    PaLM's training went back behind a spike and passed over the batches around it (arXiv:2204.02311, section 5.1); here the step
    itself is passed over, before it does harm. All norms count in the median, those of skipped steps too, so that gradients
    which have become larger for good are skipped for half a window at most.
    """

    def __init__(self, times: float) -> None:
        """Has seen nothing yet.

        Args:
            times: Multiple of the median; 0 for no rule.
        """
        self.times, self.skipped = times, 0
        self.norms: deque[float] = deque(maxlen=WINDOW)

    def sticks_out(self, norm: float) -> bool:
        """Whether a step should be skipped; the norm is remembered and a skip counted.

        Args:
            norm: Of the whole gradient, before it is clipped; finite.
        """
        usual = self.usual
        self.norms.append(norm)
        # A median of 0 is that of a training that has nothing left to learn.
        found = bool(self.times) and 0 < usual * self.times < norm
        self.skipped += found
        return found

    @property
    def usual(self) -> float:
        """The median, 0 while there are too few norms."""
        return median(self.norms) if len(self.norms) >= LEAST else 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a training that goes on must know."""
        return {"norms": list(self.norms), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self.norms, self.skipped = deque(state["norms"], maxlen=WINDOW), state["skipped"]


class TrainingGuard(lightning.Callback):
    """Applies `SpikeRule`, and ends a training whose loss, gradient or weights are no numbers, before that is saved.

    Whatever module is trained must call `look` between the last change of its gradients and their clipping
    (`LightningModule.configure_gradient_clipping`).
    """

    def __init__(self, lr: float, spike: float) -> None:
        """Takes what it may name and the rule's bound.

        Args:
            lr: Peak learning rate.
            spike: `stage3.optimizer.spike`.
        """
        self.lr, self.rule = lr, SpikeRule(spike)
        self.saved = 0
        """Optimizer steps of the last checkpoint."""
        self._loss: Tensor | None = None

    def on_before_backward(self, trainer: lightning.Trainer, pl_module: Any, loss: Tensor) -> None:
        """Sums the losses of a step's micro-batches, without waiting for the device."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def look(self, trainer: lightning.Trainer, optimizer: torch.optim.Optimizer) -> None:
        """Looks at the gradients of a step; one that sticks out has none afterwards, so that the optimizer passes it over.

        Its moments stay as they are then, the step counts and the learning rate goes on.

        Raises:
            RunError: If loss or gradient is no finite number, on any device.
        """
        parameters = [item for group in optimizer.param_groups for item in group["params"] if item.grad is not None]
        norm = float(torch.nn.utils.get_total_norm([item.grad for item in parameters]))
        loss, self._loss = self._loss, None
        # Gradients are the same on all devices, losses are not: all must come to the same end.
        total = math.nan if loss is None else float(trainer.strategy.reduce(loss.float(), reduce_op="sum"))
        if loss is not None and not math.isfinite(total):
            raise self._diverged(trainer, f"the loss {total}")
        if not math.isfinite(norm):
            if getattr(trainer.precision_plugin, "scaler", None) is not None:
                return  # Of float16: the scaler skips the step itself and lowers its scale.
            raise self._diverged(trainer, f"a gradient of norm {norm}")
        usual = self.rule.usual
        if self.rule.sticks_out(norm):
            for item in parameters:
                item.grad = None
            say(
                f"Step {trainer.global_step + 1} is skipped: its gradient's norm {norm:.3g} is more than {self.rule.times:g} "
                f"times the usual {usual:.3g} ({self.rule.skipped} skipped so far)."
            )

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Looks at the validation loss before its epoch is saved.

        Raises:
            RunError: If it is no finite number.
        """
        found = trainer.callback_metrics.get("val_loss")
        if found is not None and not math.isfinite(float(found)):
            raise self._diverged(trainer, f"the validation loss {float(found)}", 0)

    def on_save_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Looks at the weights that are about to be saved.

        Raises:
            RunError: If one is no finite number.
        """
        for name, value in checkpoint["state_dict"].items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise self._diverged(trainer, f"a weight in {name} that is no finite number", 0)
        self.saved = trainer.global_step

    def on_load_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Learns which step a training goes on behind."""
        self.saved = checkpoint["global_step"]

    def _diverged(self, trainer: lightning.Trainer, found: str, further: int = 1) -> RunError:
        kept = f"the checkpoint of step {self.saved} is kept and good" if self.saved else "nothing was saved before it"
        return RunError(
            f"A training needs losses and gradients that are finite numbers. Got {found} in step {trainer.global_step + further} "
            f"(epoch {trainer.current_epoch + 1}), which is not saved; {kept}. Lower `stage3.optimizer.lr` ({self.lr:g}) and run "
            "the command again."
        )

    def state_dict(self) -> dict[str, Any]:
        """Part of every checkpoint."""
        return self.rule.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on exactly where a checkpoint was."""
        self.rule.load_state_dict(state_dict)


def look_at_step(trainer: lightning.Trainer, optimizer: torch.optim.Optimizer) -> None:
    """Has a Trainer's guard look at a step, if it has one.

    Args:
        trainer: The Trainer.
        optimizer: Its parameters have the step's gradients, not yet clipped.

    Raises:
        RunError: As `TrainingGuard.look`.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, TrainingGuard):
            callback.look(trainer, optimizer)
