"""The models of a recipe, as one pool, and the checkpoints they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ..checkpoints import ensure, entries, locate
from ..errors import UserError
from ..models import ModelPool
from ..models.diffusers_lora import lora_of
from ..models.faithfulness import FAITHFUL, Faithfulness
from ..models.refiner import Refiner
from ..models.refiner_folder import read_refiner
from ..recipe import Recipe
from ..recipe.components import build

Role = Literal["video_model", "language_model", "vision_language_model", "embedder"]
ROLES: tuple[Role, ...] = ("video_model", "language_model", "vision_language_model", "embedder")


def open_pool(recipe: Recipe, roles: Sequence[Role] = ROLES) -> ModelPool:
    """Builds the models of a recipe; nothing is loaded, but servers and programs are asked whether they are there.

    Args:
        recipe: The recipe.
        roles: The fields to build; a command that makes no videos leaves the video model out.

    Raises:
        UserError: If a model is missing, unknown or takes other arguments, its server does not answer, or its program is not there.
    """
    # A recipe needs no judge; whoever uses one says so (`stage2.judges`).
    named = [role for role in roles if role != "vision_language_model" or getattr(recipe, role).get("class_path")]
    built: dict[str, Any] = {role.removesuffix("_model"): build(getattr(recipe, role), role) for role in named}
    for model in built.values():
        if getattr(model, "remote", False) or getattr(model, "outside", False):
            model.load()
    return ModelPool(**built, policy=recipe.residency)


def open_refiner(
    folder: str | Path,
    recipe: Recipe,
    models: ModelPool,
    own_base: bool = False,
    alone: bool = False,
    candidates: int = 1,
    faithfulness: Faithfulness | None = None,
    threshold: float = FAITHFUL,
) -> Refiner:
    """A refiner whose base is the pool's, shared with whoever else uses it.

    Args:
        folder: The refiner's folder.
        recipe: The recipe.
        models: The pool.
        own_base: Whether its base may be another than the recipe's language model, as that of a published rewriter.
        alone: Whether nobody else uses the base, which is then merged with the adapter.
        candidates: As in `Refiner`, and so are the following.
        faithfulness: What tells how much of a request is in a refined prompt.
        threshold: Least faithfulness of an answer.

    Raises:
        UserError: If the folder is no refiner, or belongs to another base, such as one that is not quantized.
    """
    arguments = recipe.language_model.get("init_args", {})
    base, batch_size = arguments.get("checkpoint"), int(arguments.get("batch_size", 16))
    wanted, allowed = str(base) if base and not own_base else None, recipe.allow_other_base
    settings = read_refiner(folder, wanted, allowed)
    settings = replace(settings, base_model=wanted or settings.base_model)
    if settings.base_model == base:
        check_refiners_base(recipe)
    model = models.adapted(settings.weights, settings.base_model, batch_size, alone)
    return Refiner(
        settings, model, candidates=candidates, faithfulness=faithfulness, threshold=threshold, allow_other_base=allowed
    )


def check_refiners_base(recipe: Recipe) -> None:
    """Looks whether refiners for a recipe's language model find it as they were trained for it.

    Raises:
        UserError: If it is quantized, and that is not allowed.
    """
    quantization = recipe.language_model.get("init_args", {}).get("quantization", "none")
    if quantization != "none" and not recipe.allow_other_base:
        raise UserError(
            "A refiner is for its language model as it is. Got one for `language_model.init_args.quantization: "
            f"{quantization}`; say `allow_other_base` to use it on that, or set it to none."
        )


def rewriter_checkpoints(recipe: Recipe, stage1: bool = True) -> list[str]:
    """Bases and adapters of the fine-tuned rewriters, where they name them.

    Args:
        recipe: The recipe.
        stage1: Whether stage 1's is used beside the loop's.
    """
    folders = [recipe.stage2.rewriter, recipe.stage1.rewriter if stage1 else ""]
    settings = [read_refiner(folder) for folder in folders if folder]
    return [name for item in settings for name in (item.base_model, item.adapter) if name]


def checkpoint_names(recipe: Recipe, roles: Sequence[Role] = ROLES) -> list[str]:
    """The checkpoints that these of a recipe's models name."""
    arguments = [getattr(recipe, role).get("init_args", {}) for role in roles]
    # A LoRA of the video model is a checkpoint of its own.
    loras = [item["lora"] for item in arguments if isinstance(item.get("lora"), dict)]
    return [str(item["checkpoint"]) for item in (*arguments, *loras) if "checkpoint" in item]


def fetch_models(recipe: Recipe, roles: Sequence[Role] = ROLES, further: Sequence[str] = ()) -> None:
    """Fetches what these models name and the manifest knows, and looks whether the device can hold them.

    Args:
        recipe: The recipe.
        roles: The fields whose models are used.
        further: Other checkpoints that are used.

    Raises:
        UserError: If a checkpoint is neither known, nor a folder, nor a hub id, a LoRA's file is not there, or the device cannot
            hold it.
    """
    from .memory_check import check_device

    names = [*checkpoint_names(recipe, roles), *further]
    for name in names:
        if name not in entries():
            locate(name)
    ensure(names)
    if "video_model" in roles and (lora := lora_of(recipe.video_model.get("init_args", {}))):
        # A hub id's file too: rows are known by what it holds, and it may be none for this model.
        lora.files()
    check_device(recipe, roles)
