"""Callbacks of TRL's trainers: metrics as Lightning logs them, the best adapter, checkpoints that are known to be whole."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ....errors import RunError
from ....running.folder import write_text
from ....running.interruption import INTERRUPTION

BEST, WHOLE, FINISHED = "best.safetensors", "whole", "finished.json"
_COLUMNS = {
    "loss": "train_loss_step", "learning_rate": "lr-AdamW", "grad_norm": "grad_norm", "eval_loss": "val_loss",
    "eval_val_preference": "val_preference", "eval_accuracy": "val_preference", "reward": "train_reward",
    "eval_reward": "val_reward", "kl": "kl",
}  # fmt: skip
"""Our names of TRL's figures."""


class Bar(ProgressCallback):  # type: ignore[misc]
    """TRL's progress bar without a line per step; the figures are in `metrics.csv`."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Prints nothing."""


class Metrics(TrainerCallback):  # type: ignore[misc]
    """Appends what is logged to a CSV with the columns of the engine `lightning`."""

    def __init__(self, path: Path) -> None:
        """Takes the file, whose folder is made when the first line is written."""
        self.path, self.names = path, ["epoch", "step", *dict.fromkeys(_COLUMNS.values())]

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Writes a line; steps count from 0 and are those that were done, as in Lightning's log."""
        found = {_COLUMNS[name]: value for name, value in (logs or {}).items() if name in _COLUMNS}
        if not state.is_world_process_zero or not found:
            return
        is_new = not self.path.is_file()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        row = {"epoch": max(0, math.ceil(state.epoch or 0) - 1), "step": state.global_step - 1, **found}
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.names, restval="")
            if is_new:
                writer.writeheader()
            writer.writerow(row)


class Keeping(TrainerCallback):  # type: ignore[misc]
    """Says when to validate and to save, keeps the best adapter, and ends a training early.

    The trainer itself saves neither at the end of epochs and every so many steps, nor the best of different figures.
    """

    def __init__(
        self, folder: Path, monitor: tuple[str, str] | None, steps: int, epoch_steps: int, patience: int
    ) -> None:
        """Takes the rules.

        Args:
            folder: The training's folder of checkpoints.
            monitor: Figure to choose by and `min` or `max`; without one the last epoch is the best.
            steps: Optimizer steps between two checkpoints within an epoch; 0 for none there.
            epoch_steps: Optimizer steps of an epoch, whose last is saved when its validation is done.
            patience: Epochs without a better figure after which the training ends; 0 for never.
        """
        self.folder, self.monitor, self.steps, self.patience = folder, monitor, steps, patience
        self.epoch_steps = epoch_steps

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Asks for a checkpoint if it is time."""
        within = state.global_step % self.epoch_steps != 0
        control.should_save = within and bool(self.steps) and state.global_step % self.steps == 0
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Asks for validation and a checkpoint; without validation this epoch is the best."""
        control.should_save = True
        control.should_evaluate = self.monitor is not None
        if self.monitor is None and state.is_world_process_zero:
            self._keep(kwargs["model"], math.nan, state)
        return control

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> TrainerControl:
        """Keeps the adapter if it is the best so far."""
        if self.monitor is None:
            return control
        name, mode = self.monitor
        figure = next(
            (float(value) for key, value in (metrics or {}).items() if _COLUMNS.get(key) == name), math.nan
        )  # fmt: skip
        best = read_best(self.folder) if (self.folder / BEST).is_file() else None
        epoch = math.ceil(state.epoch or 0)
        # What a run that was cut off had kept of a later epoch does not count yet.
        known = best is not None and best[1] < epoch
        if not known or (figure < best[0] if mode == "min" else figure > best[0]):  # type: ignore[index]
            if state.is_world_process_zero:
                self._keep(kwargs["model"], figure, state)
        elif self.patience and epoch - best[1] >= self.patience:  # type: ignore[index]
            control.should_training_stop = True
        return control

    def _keep(self, model: Any, figure: float, state: TrainerState) -> None:
        weights = {
            name: parameter.detach().cpu().contiguous()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        metadata = {"figure": repr(figure), "epoch": str(math.ceil(state.epoch or 0))}
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{BEST}.tmp"
        with temporary.open("wb") as file:
            file.write(save(weights, metadata))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / BEST)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Marks a checkpoint as whole."""
        place = self.folder / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and place.is_dir():
            write_text(place / WHOLE, "")


class Guard(TrainerCallback):  # type: ignore[misc]
    """Ends a training whose loss, gradient or validation is no number, before that is saved."""

    def __init__(self, lr: float) -> None:
        """Takes what it may name.

        Args:
            lr: Peak learning rate.
        """
        self.lr = lr

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Looks at what a step or a validation gave.

        Raises:
            RunError: If one of it is no finite number.
        """
        for name in ("loss", "grad_norm", "eval_loss"):
            found = (logs or {}).get(name)
            if found is not None and not math.isfinite(float(found)):
                raise RunError(
                    f"A training needs losses and gradients that are finite numbers. Got {name} {float(found)} in step "
                    f"{state.global_step}, which is not saved; what was saved before it is kept and good. Lower the learning rate "
                    f"({self.lr:g}) and run the command again."
                )


class EndWhenAsked(TrainerCallback):  # type: ignore[misc]
    """Ends a training after the step in which the process was asked to end; it goes on from its last checkpoint."""

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """After a step."""
        INTERRUPTION.check()


def read_best(folder: Path) -> tuple[float, int]:
    """Figure and epoch, from 1, of the best adapter.

    Raises:
        RunError: If its file is damaged.
    """
    return _opened(folder / BEST, lambda file: (float(file.metadata()["figure"]), int(file.metadata()["epoch"])))  # type: ignore[no-any-return]


def best_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Tensors of the best adapter.

    Raises:
        RunError: If its file is damaged.
    """
    return _opened(folder / BEST, lambda file: {name: file.get_tensor(name) for name in file.keys()})  # type: ignore[no-any-return]  # noqa: SIM118


def _opened(path: Path, read: Any) -> Any:
    try:
        with safe_open(path, "pt") as file:
            return read(file)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise RunError(
            f"The checkpoint {path} cannot be read ({str(error)[:200]}). Delete {path.parent} and run the same command again to "
            "train from the start."
        ) from error


def last_whole(folder: Path) -> Path | None:
    """The latest checkpoint that a kill did not cut off.

    Raises:
        RunError: If it is damaged.
    """
    found = [path for path in folder.glob("checkpoint-*") if (path / WHOLE).is_file()]
    last = max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)
    if last is not None:
        _opened(last / "adapter_model.safetensors", lambda file: list(file.keys()))
    return last


def mark_finished(folder: Path, figures: Mapping[str, Any]) -> None:
    """Notes that a training came to its end."""
    write_text(folder / FINISHED, json.dumps(dict(figures)) + "\n")
