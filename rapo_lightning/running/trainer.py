"""Lightning's Trainer, built from the recipe's `trainer` section: every argument it takes, checked before models load."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning
import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ..errors import UserError
from ..recipe.components import allow_packages
from .callbacks import EndWhenAsked, QuietBar
from .fellows import stay_together, together
from .interruption import INTERRUPTION
from .strategies import BARRIER_TIMEOUT, ShardedBase, is_sharding, with_own_strategy

_OURS = {
    "accumulate_grad_batches": "`stage3.optimizer.batch_size` and `micro_batch_size` decide it",
    "max_epochs": "`stage3.epochs` decides it",
    "use_distributed_sampler": "the data modules share the work out themselves",
}
_WRITERS = ("default_root_dir", "logger", "callbacks", "profiler", "plugins", "strategy")
"""Options that can name a place to write to."""


def _texts(value: Any) -> list[str]:
    """All texts in nested options."""
    if isinstance(value, Mapping):
        return [found for item in value.values() for found in _texts(item)]
    if isinstance(value, list):
        return [found for item in value for found in _texts(item)]
    return [value] if isinstance(value, str) else []


def _parse(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as Lightning's Trainer takes them, callbacks and loggers built.

    Raises:
        UserError: If one is unknown, of another type, ours to decide, or names a folder outside the working directory.
    """
    for name in options:
        if name in _OURS:
            raise UserError(f"`trainer.{name}` cannot be set: {_OURS[name]}. Got {options[name]!r}; leave it out.")
    for text in _texts([options[name] for name in _WRITERS if name in options]):
        if Path(text).expanduser().is_absolute() or ".." in Path(text).parts:
            raise UserError(
                f"A folder in `trainer` must lie below the working directory. Got {text!r}; name a relative one."
            )
    # Without a command line nobody has said yet what may be imported.
    allow_packages([])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(lightning.Trainer, None)
    try:
        # A copy: the parser puts the callbacks it builds into the very list that it was given.
        parsed = parser.instantiate(parser.parse_object(deepcopy(with_own_strategy(options))))
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        raise UserError(f"`trainer` does not fit lightning.Trainer: {' '.join(str(error).split())[:600]}") from error
    return {name: value for name, value in parsed.items() if name in options}


def _launched(options: dict[str, Any]) -> dict[str, Any]:
    """Devices and nodes as `torchrun` started them, where the recipe leaves them open.

    Without this every process would take itself for the only one and do all of the work.

    Raises:
        UserError: If the recipe counts other processes.
    """
    if SLURMEnvironment.detect() and int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "devices" not in options:
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return {"devices": int(os.environ["SLURM_NTASKS"]) // nodes, "num_nodes": nodes, **options}
    if not TorchElasticEnvironment.detect():
        return options
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ["WORLD_SIZE"])
    chosen = {"devices": local, "num_nodes": max(1, world // local), **options}
    if str(chosen["devices"]).isdigit() and int(chosen["devices"]) * int(chosen["num_nodes"]) != world:
        raise UserError(
            f"`trainer` must count the {world} processes that torchrun started. Got devices={chosen['devices']} and "
            f"num_nodes={chosen['num_nodes']}; leave both out, or each process would do all of the work."
        )
    return chosen


def _shared(options: dict[str, Any]) -> dict[str, Any]:
    """Fills in what all stages share."""
    chosen = _launched(options)
    if not torch.cuda.is_available() and chosen.get("accelerator", "auto") == "auto":
        # On a CPU, "auto" is one process; several are asked for by number.
        chosen.setdefault("devices", 1)
    devices, nodes = chosen.get("devices", "auto"), chosen.get("num_nodes", 1)
    alone = devices in (1, "1") and nodes == 1
    if not alone and chosen.get("strategy", "auto") in ("auto", "ddp"):
        several = nodes > 1 or devices not in ("auto", -1, "-1") or torch.cuda.device_count() > 1
        if several:
            chosen["strategy"] = DDPStrategy(timeout=BARRIER_TIMEOUT)
    if isinstance(chosen.get("strategy"), ShardedBase):
        # Weights that are gathered in inference mode could not be used in training after it.
        chosen["inference_mode"] = False
    return {"enable_model_summary": False, **chosen, "use_distributed_sampler": False}


def check_trainer(options: Mapping[str, Any]) -> None:
    """Checks the recipe's `trainer` section without starting anything.

    Raises:
        UserError: As `make_trainer`.
    """
    _parse(options)


def make_trainer(
    options: Mapping[str, Any], callbacks: Sequence[lightning.Callback] = (), **ours: Any
) -> lightning.Trainer:
    """A Trainer with the recipe's options over those of a stage.

    Args:
        options: The recipe's `trainer` section: anything `lightning.Trainer` takes; callbacks and loggers as `class_path`
            and `init_args`.
        callbacks: The stage's own callbacks, beside the recipe's.
        ours: The stage's own arguments; the recipe's options win, where they may be set at all.

    Raises:
        UserError: If an option is unknown, of another type, or cannot work on this machine.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    given = _parse(options)
    further = given.pop("callbacks", None) or []
    further = list(further) if isinstance(further, (list, tuple)) else [further]
    chosen = {**ours, **_shared(given)}
    has_bar = any(isinstance(callback, ProgressBar) for callback in further)
    bar = [QuietBar()] if chosen.get("enable_progress_bar", True) and not has_bar else []
    try:
        trainer = lightning.Trainer(**chosen, callbacks=[*callbacks, *further, *bar])
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise UserError(f"`trainer` cannot work here: {' '.join(str(error).split())}") from error
    stay_together(trainer.strategy)
    return trainer


def predict_trainer(options: Mapping[str, Any], callbacks: Sequence[lightning.Callback] = ()) -> lightning.Trainer:
    """A Trainer for a stage that runs in predict mode.

    Its precision is the models' own business: `trainer.precision` is that of training and would wrap every video in
    autocast. So is how models lie on the devices: a strategy that shards is that of training too. A logger is used only where
    the recipe names one.
    """
    mine = {name: value for name, value in options.items() if name != "precision"}
    if is_sharding(mine):
        del mine["strategy"]
    return make_trainer(
        mine, [*callbacks, EndWhenAsked()], logger=False, enable_checkpointing=False, enable_progress_bar=False
    )


def predict(trainer: lightning.Trainer, module: lightning.LightningModule, data: lightning.LightningDataModule) -> None:
    """Runs a stage in predict mode; its rows are on disk, those of all processes, on return.

    Args:
        trainer: From `predict_trainer`.
        module: The stage.
        data: Its steps.
    """
    with together(), INTERRUPTION.watched():
        trainer.predict(module, data, return_predictions=False)
    with together():
        trainer.strategy.barrier()


def training_precision(options: Mapping[str, Any]) -> str:
    """Precision of training: the recipe's, else bf16-mixed where this machine multiplies in bfloat16, else 32-true."""
    if options.get("precision", "auto") != "auto":
        return str(options["precision"])
    if torch.cuda.is_available() and options.get("accelerator", "auto") != "cpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        flags = ""
    # Without these instructions bfloat16 is emulated and slower than float32.
    return "bf16-mixed" if "amx_bf16" in flags or "avx512_bf16" in flags else "32-true"
