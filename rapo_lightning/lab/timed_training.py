"""A resumable training loop whose budget is time: the learning rate follows the clock, not a guessed step count."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

SAVE_EVERY_SECONDS = 60.0
LOG_EVERY = 100
WARMUP_SHARE = 0.02


class TimedTraining:
    """Trains a module for a number of seconds, with warm-up, cosine decay, gradient clipping and a running average.

    Killed and started again with the same arguments it goes on from its last save, at most a minute back.
    """

    def __init__(
        self, module: nn.Module, work: Path, name: str, seconds: float, lr: float, average: float, seed: int
    ) -> None:
        """Prepares the optimizer and reads the last save, if there is one.

        Args:
            module: What to train, already on its device.
            work: Folder of the saves and of the loss log.
            name: Stem of the files, `<name>.pt` and `<name>.csv`.
            seconds: Budget; time spent in earlier runs counts.
            lr: Peak learning rate.
            average: Decay of the exponential moving average of the weights.
            seed: Seed of the first run; a resumed run goes on with another stream.
        """
        self.module, self.seconds, self.lr, self.average = module, seconds, lr, average
        self.save_path, self.log_path = work / f"{name}.pt", work / f"{name}.csv"
        fused = next(module.parameters()).is_cuda
        self.optimizer = torch.optim.AdamW(
            module.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01, fused=fused
        )
        self.ema = {key: value.detach().clone().float() for key, value in module.state_dict().items()}
        self.step, self.spent = 0, 0.0
        if self.save_path.is_file():
            saved = torch.load(self.save_path, map_location=next(module.parameters()).device, weights_only=True)
            module.load_state_dict(saved["module"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.ema, self.step, self.spent = saved["ema"], saved["step"], saved["spent"]
        torch.manual_seed(seed + self.step)

    @property
    def share(self) -> float:
        """Share of the budget that is spent, 0..1."""
        return min(self.spent / self.seconds, 1.0)

    def _save(self) -> None:
        state = {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema,
            "step": self.step,
            "spent": self.spent,
        }
        self.save_path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, self.save_path.with_suffix(".tmp"))
        os.replace(self.save_path.with_suffix(".tmp"), self.save_path)

    def _log(self, loss: float, extra: str) -> None:
        is_new = not self.log_path.is_file()
        with self.log_path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["step", "seconds", "loss", "note"])
            writer.writerow([self.step, round(self.spent, 1), round(loss, 6), extra])
        print(f"step {self.step:6d}  {self.spent:6.1f} s  loss {loss:.5f}  {extra}", flush=True)

    def _update(self, loss: Tensor) -> None:
        warmup = min(self.share / WARMUP_SHARE, 1.0)
        rate = self.lr * warmup * (0.5 * (1 + math.cos(math.pi * self.share)) * 0.99 + 0.01)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        # The average follows closely at first, so that early weights do not linger in short trainings.
        decay = min(self.average, (1 + self.step) / (10 + self.step))
        state = self.module.state_dict()
        keys = [key for key in self.ema if self.ema[key].is_floating_point()]
        torch._foreach_lerp_([self.ema[key] for key in keys], [state[key].float() for key in keys], 1 - decay)

    def run(self, loss_of: Callable[[float], tuple[Tensor, str]]) -> dict[str, Tensor]:
        """Trains until the budget is spent.

        Args:
            loss_of: Given the share of the budget that is spent, returns the loss of a fresh batch and a note for the
                log.

        Returns:
            The averaged weights.
        """
        begin, before = time.monotonic(), self.spent
        saved_at, total, count = self.spent, torch.zeros((), device=next(self.module.parameters()).device), 0
        while self.spent < self.seconds:
            loss, note = loss_of(self.share)
            self._update(loss)
            self.step, count = self.step + 1, count + 1
            total += loss.detach()
            if self.step % LOG_EVERY == 0:
                self._log(float(total) / count, note)
                total.zero_()
                count = 0
            self.spent = before + time.monotonic() - begin
            if self.spent - saved_at > SAVE_EVERY_SECONDS:
                self._save()
                saved_at = self.spent
        self._save()
        return self.ema
