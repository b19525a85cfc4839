"""What the commands share: the run folder, the Trainer, the device."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only

from datamodules import PromptDataModule

from ..checkpoints import ensure, entries, locate
from ..data.store import make_folder
from ..errors import RunError, UserError
from ..recipe import Recipe
from ..running.trainer import predict_trainer


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


def predict(options: Mapping[str, Any], module: lightning.LightningModule, data: PromptDataModule) -> None:
    """Runs a stage in predict mode; what it makes goes to its store, which is whole for all processes on return."""
    trainer = predict_trainer(options)
    trainer.predict(module, data, return_predictions=False)
    trainer.strategy.barrier()


def require_file(value: str, option: str) -> Path:
    """A path that must exist.

    Raises:
        UserError: If it does not.
    """
    path = Path(value)
    if not path.is_file():
        raise UserError(f"`{option}` must name a file. Got {value!r}, which is none.")
    return path
