"""From pairs to a refiner's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from datamodules import PairDataModule

from ..checkpoints import identity, weights_identity
from ..console import say
from ..errors import UserError
from ..models.causal_model import load_causal_model
from ..models.refiner_folder import RefinerFolder, read_refiner
from ..prompting.pairs import SftPair
from ..recipe import Recipe
from ..recipe.components import check
from ..recipe.identity import digest
from ..running.folder import write_text
from .card import TrainingSummary, card_text
from .export import export, recover, vocabulary
from .metrics import joined_metrics
from .module import RefinerModule
from .pairs import Funnel, PairViews, instruction, sft_pairs
from .training import Training


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


def _planned(training: Training, base: str, pairs: list[SftPair]) -> RefinerFolder:
    """What the refiner of a training will say of itself."""
    recipe, stage3 = training.recipe, training.recipe.stage3
    return RefinerFolder(
        training.folder / "refiner",
        base,
        instruction(stage3),
        stage3.sampling,
        recipe.seed,
        weights_identity(base),
        digest([training.identity, vars(stage3.sampling)]),
        vocabulary=vocabulary(pairs),
    )


def _is_exported(planned: RefinerFolder) -> bool:
    try:
        return read_refiner(planned.path).training == planned.training
    except UserError:
        return False


@rank_zero_only
def _export(
    training: Training, module: RefinerModule, tokenizer: Any, data: PairDataModule, planned: RefinerFolder,
    report: Funnel, example: str,
) -> None:  # fmt: skip
    """Writes the refiner of the best epoch and the table of its losses."""
    best = training.best()
    module.load_state_dict(best.weights)
    summary = TrainingSummary(
        report, len(data.training), len(data.validation), best.val_loss, best.epoch, example
    )  # fmt: skip
    export(planned, module.model, tokenizer, card_text(training.recipe, planned, summary))
    metrics = joined_metrics(training.folder, training.identity)
    if metrics:
        write_text(training.folder / "metrics.csv", metrics)
    say(f"refiner written to {planned.path} (epoch {best.epoch}, validation loss {best.val_loss:.4f})")


def train_refiner(recipe: Recipe, folder: Path, views: PairViews) -> Path:
    """Trains and exports; run again it goes on from the last checkpoint, within an epoch too, or does nothing if it is done.

    Args:
        recipe: The recipe.
        folder: The run folder; the base model must be here.
        views: From `load_pairs`.

    Returns:
        The refiner's folder.
    """
    base, view = base_checkpoint(recipe), views.view("sft")
    split = sft_pairs(view["train"]), sft_pairs(view["validation"])
    training = Training(recipe, folder, identity(base), [*split[0], *split[1]])
    planned = _planned(training, base, split[0])
    trainer = training.trainer(bool(split[1]))
    rank_zero_only(recover)(planned.path)
    if training.is_finished() and _is_exported(planned) and not training.is_trial:
        say(f"This training is done: its refiner is in {planned.path}.")
        return planned.path
    model, tokenizer = load_causal_model(base, "float32" if training.precision == "32-true" else "bfloat16")
    sizes = recipe.stage3.optimizer.micro_batch_size, recipe.stage3.max_length
    data = PairDataModule(*split, tokenizer, *sizes, recipe.seed)
    module = training.fit(trainer, model, data)
    if training.is_trial:
        say("`trainer.fast_dev_run`: a trial of a few batches, nothing is exported.")
        return planned.path
    _export(training, module, tokenizer, data, planned, views.funnel, split[0][0].prompt[-1]["content"])
    trainer.strategy.barrier()
    return planned.path
