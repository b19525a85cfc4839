"""What the commands share: the run folder, the Trainer, the device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from datamodules import PromptDataModule

from ..checkpoints import ensure, entries, locate
from ..console import quiet_trainer
from ..data.store import make_folder
from ..errors import RunError, UserError
from ..recipe import Recipe, TrainerOptions

_BARRIER_TIMEOUT = timedelta(hours=24)
"""Ranks finish their videos at different times; torch's default of 10 or 30 minutes would end the run."""


def run_folder(recipe: Recipe, out: str) -> Path:
    """The run's folder, created if need be.

    Raises:
        RunError: If it cannot be created.
    """
    return make_folder(Path(out) if out else Path("runs") / recipe.name)


@rank_zero_only
def save_recipe(recipe_yaml: str, folder: Path) -> None:
    """Writes the resolved recipe beside the data it made.

    Raises:
        RunError: If the folder is read-only or full.
    """
    write_text(folder / "recipe.yaml", recipe_yaml)


def write_text(path: Path, text: str) -> None:
    """Writes a small file whole or not at all.

    Raises:
        RunError: If the disk is full or read-only.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}. Make room or choose another `--out`.") from error


def saved_recipe_name(folder: Path) -> str:
    """Name of the recipe that a run folder was made with, or the folder's own name."""
    path = folder / "recipe.yaml"
    return (
        str(yaml.safe_load(path.read_text(encoding="utf-8")).get("name", folder.name))
        if path.is_file()
        else folder.name
    )


MODELS = ("video_model", "language_model", "vision_language_model", "embedder")


def checkpoint_names(recipe: Recipe, models: Sequence[str] = MODELS) -> list[str]:
    """The checkpoints that these of a recipe's models name."""
    arguments = [getattr(recipe, model).get("init_args", {}) for model in models]
    return [str(item["checkpoint"]) for item in arguments if "checkpoint" in item]


def fetch_models(recipe: Recipe, models: Sequence[str] = MODELS) -> None:
    """Fetches what the recipe names and the manifest knows.

    Args:
        recipe: The recipe.
        models: The fields to look at; a command that makes no videos leaves the video model where it is.

    Raises:
        UserError: If a checkpoint is neither known, nor a folder, nor a hub id.
    """
    names = checkpoint_names(recipe, models)
    for name in names:
        if name not in entries():
            locate(name)
    ensure(names)


def default_device() -> torch.device:
    """The device of commands that run without a Trainer."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_count(options: TrainerOptions) -> int:
    """Number of devices on this node that Lightning will use."""
    wanted = options.devices
    if isinstance(wanted, int) and wanted > 0:
        return wanted
    if isinstance(wanted, str) and wanted.isdigit():
        return int(wanted)
    uses_gpu = options.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.cuda.device_count() if uses_gpu else 1


def trainer_arguments(options: TrainerOptions) -> dict[str, Any]:
    """Arguments of `lightning.Trainer` that all stages share."""
    quiet_trainer()
    many = device_count(options) * options.num_nodes > 1
    strategy: Any = options.strategy
    if many and strategy in ("auto", "ddp"):
        strategy = DDPStrategy(timeout=_BARRIER_TIMEOUT)
    devices = options.devices
    if not torch.cuda.is_available() and options.accelerator == "auto" and devices == "auto":
        devices = 1
    return {
        "accelerator": options.accelerator,
        "devices": devices,
        "num_nodes": options.num_nodes,
        "strategy": strategy,
        "use_distributed_sampler": False,
        "enable_model_summary": False,
    }


def predict(options: TrainerOptions, module: lightning.LightningModule, data: PromptDataModule) -> None:
    """Runs a stage in predict mode; what it makes goes to its store, which is whole for all processes on return."""
    trainer = lightning.Trainer(
        **trainer_arguments(options), logger=False, enable_checkpointing=False, enable_progress_bar=True
    )
    trainer.predict(module, data, return_predictions=False)
    trainer.strategy.barrier()


def training_precision(options: TrainerOptions) -> str:
    """Precision of stage 3 on this machine."""
    if options.precision != "auto":
        return options.precision
    if torch.cuda.is_available() and options.accelerator != "cpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        flags = ""
    # Without these instructions bfloat16 is emulated and slower than float32.
    return "bf16-mixed" if "amx_bf16" in flags or "avx512_bf16" in flags else "32-true"


def require_file(value: str, option: str) -> Path:
    """A path that must exist.

    Raises:
        UserError: If it does not.
    """
    path = Path(value)
    if not path.is_file():
        raise UserError(f"`{option}` must name a file. Got {value!r}, which is none.")
    return path
