"""From pairs to a refiner's folder."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only

from ..checkpoints import weights_identity
from ..console import say
from ..errors import UserError
from ..models.causal_model import context_of, load_causal_model
from ..models.refiner_folder import RefinerFolder, read_refiner
from ..recipe import Recipe
from ..recipe.components import check
from ..recipe.identity import digest
from .adapter import set_dropout, trainable
from .card import TrainingSummary, card_text
from .curves import write_metrics
from .engines import Engine, Plan, make_engine, phases
from .export import closed_vocabulary, export, recover, vocabulary
from .float8 import freeze_in_float8
from .pairs import PairViews, instruction
from .reward import train_reward_model
from .start import begin_with, read_start


def base_checkpoint(recipe: Recipe) -> str:
    """Name of the checkpoint that is trained.

    Raises:
        UserError: If the language model names none.
    """
    found, arguments = check(recipe.language_model, "language_model")
    if not arguments.get("checkpoint"):
        raise UserError(
            "`finetune` trains the checkpoint that `language_model.init_args.checkpoint` names. Got "
            f"{found.__name__} without one; name a model of transformers, such as `smollm2-135m-instruct`."
        )
    return str(arguments["checkpoint"])


def _check_context(recipe: Recipe, base: str) -> None:
    """Raises UserError where pairs may be longer than what the base was made for: some models end there, others guess on."""
    longest, context = recipe.stage3.max_length, context_of(base)
    if context is not None and longest > context:
        raise UserError(
            f"`stage3.max_length` must not exceed the context of the language model. Got {longest} tokens, and {base} has {context}; "
            "lower it."
        )


def make_plans(recipe: Recipe, folder: Path, base: str, views: PairViews) -> list[Plan]:
    """The trainings that make a refiner, each going on with the adapter of the one before.

    Args:
        recipe: The recipe.
        folder: The run folder.
        base: Name of the base model's checkpoint, which must be here.
        views: The pairs.

    Raises:
        UserError: If pairs may be longer than the base's context, an objective has nothing to learn from, its engine cannot train
            it, or no training can begin with `stage3.lora.start`.
    """
    _check_context(recipe, base)
    plans: list[Plan] = []
    found = read_start(recipe.stage3.lora, base)
    start = found.identity() if found else ""
    for phase in phases(recipe.stage3):
        plans.append(Plan(recipe, folder, phase, base, views, start))
        start = plans[-1].identity
    return plans


def _planned(plan: Plan, base: str, start: RefinerFolder | None, views: PairViews) -> RefinerFolder:
    """What the refiner of a training will say of itself."""
    recipe, stage3 = plan.recipe, plan.recipe.stage3
    known = vocabulary(plan.rows["train"])
    closed = (
        closed_vocabulary(views.view("sft")["train"], stage3.closed_vocabulary)
        if stage3.closed_vocabulary
        else frozenset()
    )
    if start:
        # Where it is not known what an adapter has read before, no word can be called new.
        known = known | start.vocabulary if start.vocabulary else frozenset()
    return RefinerFolder(
        plan.folder / "refiner",
        base,
        instruction(stage3),
        stage3.sampling,
        recipe.seed,
        weights_identity(base),
        digest([plan.identity, vars(stage3.sampling), *([sorted(closed)] if closed else [])]),
        vocabulary=known,
        closed=closed,
    )


def _is_exported(planned: RefinerFolder) -> bool:
    try:
        return read_refiner(planned.path).training == planned.training
    except UserError:
        return False


@rank_zero_only
def _export(
    plans: list[Plan], engine: Engine, model: Any, tokenizer: Any, planned: RefinerFolder, views: PairViews
) -> None:
    """Writes the refiner of the best epoch and the table of its losses."""
    plan, best = plans[-1], engine.best()
    summary = TrainingSummary(
        views.funnel, len(plan.rows["train"]), len(plan.rows["validation"]), [item.phase for item in plans],
        plan.monitor[0], best.figure, best.epoch, plan.rows["train"][0]["prompt"][-1]["content"],
    )  # fmt: skip
    # First: a refiner that is there says that all is done.
    write_metrics([item.identity for item in plans], plan.folder, best.epoch)
    export(planned, model, tokenizer, card_text(plan.recipe, planned, summary))
    told = "" if math.isnan(best.figure) else f", {plan.monitor[0]} {best.figure:.4f}"
    say(f"refiner written to {planned.path} (epoch {best.epoch}{told})")


def _dropout(plan: Plan) -> float:
    return plan.recipe.stage3.lora.dropout if plan.kind.dropout else 0.0


def _fresh(base: Any, plan: Plan) -> Any:
    """A PEFT model for a training, its adapter fresh."""
    stage3 = plan.recipe.stage3
    torch.manual_seed(plan.recipe.seed)
    return trainable(base, replace(stage3, lora=replace(stage3.lora, dropout=_dropout(plan))))


def train_refiner(recipe: Recipe, folder: Path, views: PairViews) -> Path:
    """Trains and exports; run again it goes on from the last checkpoint, within an epoch too, or does nothing if it is done.

    Args:
        recipe: The recipe.
        folder: The run folder; the base model must be here.
        views: From `load_pairs`.

    Returns:
        The refiner's folder, or for the objective `reward` the reward model's.
    """
    base = base_checkpoint(recipe)
    if recipe.stage3.objective == "reward":
        (plan,) = make_plans(recipe, folder, base, views)
        return train_reward_model(plan, base)
    plans = make_plans(recipe, folder, base, views)
    engines = [make_engine(plan) for plan in plans]
    start = read_start(recipe.stage3.lora, base)
    planned = _planned(plans[-1], base, start, views)
    rank_zero_only(recover)(planned.path)
    if engines[-1].is_finished() and _is_exported(planned) and not plans[-1].is_trial:
        say(f"This training is done: its refiner is in {planned.path}.")
        return planned.path
    dtype: Any = "float32" if plans[0].precision == "32-true" else "bfloat16"
    model, tokenizer = load_causal_model(base, dtype, recipe.stage3.lora.quantization, engines[0].device)
    model = _fresh(model, plans[0])
    if recipe.stage3.lora.quantization == "float8":
        freeze_in_float8(model, engines[0].device)
    if start:
        begin_with(model, start)
    for plan, engine in zip(plans, engines, strict=True):
        # A later one goes on with the best weights of the one before.
        set_dropout(model, _dropout(plan))
        if plan.is_trial or not engine.is_finished():
            engine.fit(model, plan.data(tokenizer))
        if plan.is_trial:
            say("`trainer.fast_dev_run`: a trial of a few batches, nothing is exported.")
            return planned.path
        engine.barrier()
        engine.restore(model)
    _export(plans, engines[-1], model, tokenizer, planned, views)
    engines[-1].barrier()
    return planned.path
