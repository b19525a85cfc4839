"""Trains by the clock on Lightning: the budget is time, and the learning rate follows it, not a guessed step count."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ...console import say
from ...running.trainer import make_trainer
from ...stage3.engines.lightning.checkpoints import WholeFiles
from ...stage3.engines.metrics import joined_metrics, next_log

SAVE_EVERY = timedelta(seconds=60)
LOG_EVERY = 100
"""Steps of an epoch: losses are summed on the device and read once, for the epoch's line in the log."""
WARMUP_SHARE = 0.02
WARMUP_STEPS = 100
"""Least steps of the warm-up: where the first one is compiled, its time is spent before the second."""

Batch = tuple[Tensor, Tensor]
Drawn = Batch | dict[str, Tensor]


class TimedModule(lightning.LightningModule):
    """What a training by the clock knows of itself beside its loss.

    Attributes:
        peak_rate: Learning rate after the warm-up.
        average: Decay of the exponential moving average of the weights.
        seed: Seed of the first start; one that goes on draws from another stream.
        skipped: Steps of this start whose gradients were no numbers.
    """

    peak_rate = 1e-3
    average = 0.999
    seed = 0
    skipped = 0

    def on_train_start(self) -> None:
        """Seeds this start."""
        torch.manual_seed(self.seed + self.trainer.global_step)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Empties gradients that are no numbers: one such step would spoil the weights, and their average, for good."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        if not all(torch.stack([gradient.isfinite().all() for gradient in gradients])):
            self.skipped += 1
            for gradient in gradients:
                gradient.zero_()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; not fused, because Lightning does not clip gradients for a fused one under mixed precision."""
        return torch.optim.AdamW(self.parameters(), lr=self.peak_rate, betas=(0.9, 0.98), weight_decay=0.01)


class Clock(Timer):
    """Ends a training when its time is spent, over all its starts, and sets the learning rate by the share spent."""

    def __init__(self, seconds: float) -> None:
        """Takes the budget."""
        super().__init__(timedelta(seconds=seconds), verbose=False)
        self.seconds = seconds

    @property
    def share(self) -> float:
        """Share of the budget that is spent, 0..1."""
        return min(self.time_elapsed() / self.seconds, 1.0)

    def on_train_batch_start(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Warm-up, then cosine decay to a hundredth of the peak."""
        share = self.share
        warm = min(share / WARMUP_SHARE, (trainer.global_step + 1) / WARMUP_STEPS, 1.0)
        factor = warm * (0.5 * (1 + math.cos(math.pi * share)) * 0.99 + 0.01)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * factor

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Adds the columns `step`, `seconds` and `skipped` to the log and prints a line."""
        super().on_train_epoch_end(trainer, pl_module)
        seconds = self.time_elapsed()
        skipped = float(getattr(pl_module, "skipped", 0))
        pl_module.log_dict({"step": float(trainer.global_step), "seconds": seconds, "skipped": skipped})
        means = {name: trainer.callback_metrics[name] for name in ("loss", "psnr") if name in trainer.callback_metrics}
        shown = "  ".join(f"{name} {float(value):.5f}" for name, value in means.items())
        say(f"step {trainer.global_step:6d}  {seconds:6.1f} s  {shown}" + f"  skipped {skipped:.0f}" * (skipped > 0))


class CloseAverage(WeightAveraging):
    """An exponential moving average that follows closely at first: early weights do not linger in short trainings."""

    def __init__(self, decay: float, device: torch.device) -> None:
        """Takes the decay after the first steps, and where the average is kept."""

        def update(averaged: Any, current: Any, count: Tensor) -> None:
            step = int(count)
            get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))(averaged, current, count)

        super().__init__(device, use_buffers=False, multi_avg_fn=update)


class Draws:
    """An epoch of fresh batches, each drawn on the training device when the loop asks for it."""

    def __init__(self, draw: Callable[[], Drawn]) -> None:
        """Takes what draws a batch."""
        self.draw = draw

    def __len__(self) -> int:
        """Batches of an epoch."""
        return LOG_EVERY

    def __iter__(self) -> Iterator[Drawn]:
        """Draws an epoch."""
        return (self.draw() for _ in range(LOG_EVERY))


def _restore_finished(module: TimedModule, clock: Clock, place: Path) -> bool:
    """Takes over the averaged weights of a training that has spent its budget."""
    if not place.is_file():
        return False
    saved = torch.load(place, map_location="cpu", weights_only=True)
    clock.load_state_dict(saved["callbacks"][clock.state_key])
    if clock.share < 1:
        return False
    module.load_state_dict(saved["state_dict"])
    return True


def _trainer(clock: Clock, average: CloseAverage, work: Path, name: str, device: torch.device) -> lightning.Trainer:
    saver = ModelCheckpoint(
        work, filename=name, train_time_interval=SAVE_EVERY, save_on_exception=True, enable_version_counter=False
    )
    return make_trainer(
        {"accelerator": device.type, "devices": 1},
        [clock, average, saver],
        max_epochs=-1,
        precision="bf16-mixed" if device.type == "cuda" else "32-true",
        gradient_clip_val=1.0,
        log_every_n_steps=LOG_EVERY,
        enable_progress_bar=False,
        # A logger empties a folder that is there already, so every start gets its own.
        logger=CSVLogger(work / "logs", name="", version=next_log(work, name)),
        plugins=[WholeFiles()],
    )


def train(
    module: TimedModule, batches: Callable[[Clock], Draws], work: Path, name: str, seconds: float, device: torch.device
) -> None:
    """Trains a module until its time is spent and leaves the averaged weights in it.

    Killed and started again with the same arguments it goes on from its last save, at most a minute back.

    Args:
        module: What to train, already on its device.
        batches: Prepares the data; called only where there is time left.
        work: Folder of the saves and of the loss log.
        name: Stem of the files, `<name>.ckpt` and `<name>.csv`.
        seconds: Budget; time spent in earlier starts counts.
        device: The module's device.
    """
    # Batches are drawn at random without end: there is no place in an epoch to go back to.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    clock, place = Clock(seconds), work / f"{name}.ckpt"
    if not _restore_finished(module, clock, place):
        trainer = _trainer(clock, CloseAverage(module.average, device), work, name, device)
        trainer.fit(module, batches(clock), ckpt_path=str(place) if place.is_file() else None)
        # The last minute is in no save yet.
        trainer.save_checkpoint(place)
        (work / f"{name}.csv").write_text(joined_metrics(work, [name]), encoding="utf-8")
    # Lightning leaves a module that it trained on the CPU.
    module.to(device).eval()
