"""`finetune`: trains a LoRA refiner on a run's trajectories, or on a pairs CSV."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from datamodules import PairDataModule

from ..console import say
from ..data.trajectory import read_rows
from ..errors import UserError
from ..models.transformers_language import load_causal_model
from ..recipe import Optimizer, Recipe, digest
from ..recipe.components import check
from ..running.trainer import make_trainer, training_precision
from ..stage3.card import TrainingSummary, write_card
from ..stage3.module import RefinerModule
from ..stage3.pairs import PairReport, SftPair, read_pairs_csv, sft_pairs, split_pairs
from ..stage3.refiner import write_config, write_vocabulary
from .common import (
    fetch_models,
    require_file,
    run_folder,
    save_recipe,
)


def load_pairs(recipe: Recipe, folder: Path, pairs_csv: str) -> tuple[list[SftPair], PairReport | None]:
    """The pairs of a run, or of a CSV.

    Raises:
        UserError: If there are no trajectories of this recipe, or none passes the filters.
    """
    if pairs_csv:
        return read_pairs_csv(require_file(pairs_csv, "--pairs"), recipe.stage3), None
    rows = read_rows(folder / "trajectories", recipe.row_hash())
    if not rows:
        raise UserError(
            f"`finetune` needs trajectories of this recipe. Got none with recipe hash {recipe.row_hash()} in "
            f"{folder / 'trajectories'}; run `collect` with the same recipe and `--out` first, or pass `--pairs FILE.csv`."
        )
    pairs, report = sft_pairs(rows, recipe.stage3)
    say(str(report))
    if not pairs:
        raise UserError(f"Fine-tuning needs pairs. Got {report}; collect more or relax `stage3.pairs`.")
    return pairs, report


def _training_hash(recipe: Recipe, pairs: list[SftPair], base: str) -> str:
    """Identity of a training: its checkpoints are resumed by the same settings on the same pairs only."""
    return digest([asdict(recipe.stage3), recipe.seed, base, [asdict(pair) for pair in pairs]])


def _trainer(recipe: Recipe, folder: Path, checkpoints: Path, has_validation: bool) -> lightning.Trainer:
    # Epoch ends alone: Lightning's resume in the middle of an epoch starts again at the epoch's first sample.
    keep = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor="val_loss" if has_validation else None,
        save_last=True,
        enable_version_counter=False,
    )
    # A logger empties a folder that is there already, so every start gets its own.
    version = f"{checkpoints.name}-{len(_log_folders(folder, checkpoints.name))}"
    loggers = [
        CSVLogger(folder / "logs", name="", version=version),
        TensorBoardLogger(folder / "logs", name="", version=version),
    ]
    trainer = make_trainer(
        {**recipe.trainer, "precision": training_precision(recipe.trainer)},
        [keep],
        max_epochs=recipe.stage3.epochs,
        gradient_clip_val=1.0,
        log_every_n_steps=1,
        logger=loggers,
    )
    trainer.accumulate_grad_batches = _accumulation(recipe.stage3.optimizer, trainer.world_size)
    return trainer


def _accumulation(settings: Optimizer, world: int) -> int:
    """Micro-batches per optimizer step.

    Raises:
        UserError: If the batch cannot be shared out.
    """
    if settings.batch_size % (settings.micro_batch_size * world):
        raise UserError(
            "`stage3.optimizer.batch_size` must be a multiple of micro_batch_size times the number of devices. Got "
            f"{settings.batch_size}, {settings.micro_batch_size} and {world}; change one of them."
        )
    return settings.batch_size // (settings.micro_batch_size * world)


def _export(
    module: RefinerModule, recipe: Recipe, folder: Path, base: str, summary: TrainingSummary, pairs: list[SftPair]
) -> None:
    refiner = folder / "refiner"
    refiner.mkdir(parents=True, exist_ok=True)
    module.model.peft_config["default"].save_pretrained(refiner)
    # bfloat16 halves the file; the rounding is far below what training at these rates resolves.
    tensors = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in get_peft_model_state_dict(module.model).items()
    }
    save_file(tensors, refiner / "adapter_model.safetensors", metadata={"format": "pt"})
    write_config(refiner, base, recipe.stage3.system, recipe.stage3.sampling, recipe.seed)
    write_vocabulary(refiner, pairs)
    write_card(refiner, recipe, base, summary)


def _best(trainer: lightning.Trainer, checkpoints: Path) -> tuple[str, float, int]:
    """Path, validation loss and epoch (from 1) of the checkpoint to export."""
    callback = trainer.checkpoint_callback
    assert isinstance(callback, ModelCheckpoint)
    # By name, not by the path the callback remembers: a run folder may be moved between two starts.
    path = str(checkpoints / "best.ckpt")
    epoch = int(torch.load(path, map_location="cpu", weights_only=True)["epoch"]) + 1
    value = callback.best_model_score
    return path, float(value) if value is not None and callback.monitor else math.nan, epoch


def _log_folders(folder: Path, training: str) -> list[Path]:
    """Log folders of a training, one per start, in order."""
    found = (folder / "logs").glob(f"{training}-*")
    return sorted(found, key=lambda path: int(path.name.rsplit("-", 1)[1]))


def _write_metrics(folder: Path, training: str) -> None:
    """Joins the logs of all starts into `metrics.csv`; a step that was repeated after a kill counts once."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    columns: dict[str, None] = {}
    for logs in _log_folders(folder, training):
        if (logs / "metrics.csv").is_file():
            with (logs / "metrics.csv").open(newline="") as file:
                for row in csv.DictReader(file):
                    columns.update(dict.fromkeys(row))
                    # A step has up to three lines: its loss, the validation's, the epoch's.
                    filled = sorted(name for name, value in row.items() if value)
                    rows[row["epoch"], row["step"], *filled] = row
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows.values())


def finetune(recipe: Recipe, recipe_yaml: str, out: str, pairs_csv: str = "") -> Path:
    """Fine-tunes a refiner; run again it goes on from the last whole epoch.

    Returns:
        The refiner's folder.
    """
    _, arguments = check(recipe.language_model, "language_model")
    base = str(arguments["checkpoint"])
    folder = run_folder(recipe, out)
    pairs, report = load_pairs(recipe, folder, pairs_csv)
    training, validation = split_pairs(pairs, recipe.stage3.pairs)
    fetch_models(recipe, ("language_model",))
    save_recipe(recipe_yaml, folder)
    precision = training_precision(recipe.trainer)
    model, tokenizer = load_causal_model(base, "float32" if precision == "32-true" else "bfloat16")
    data = PairDataModule(
        training, validation, tokenizer, recipe.stage3.optimizer.micro_batch_size, recipe.stage3.max_length, recipe.seed
    )
    checkpoints = folder / "checkpoints" / _training_hash(recipe, pairs, base)
    module = RefinerModule(model, recipe.stage3, recipe.seed)
    trainer = _trainer(recipe, folder, checkpoints, bool(data.validation))
    last = checkpoints / "last.ckpt"
    say(f"{len(data.training)} training and {len(data.validation)} validation pairs, {precision}")
    trainer.fit(module, data, ckpt_path=str(last) if last.is_file() else None)
    if trainer.is_global_zero:
        path, val_loss, epoch = _best(trainer, checkpoints)
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
        example = training[0].prompt[-1]["content"]
        summary = TrainingSummary(report, len(data.training), len(data.validation), val_loss, epoch, example)
        _export(module, recipe, folder, base, summary, training)
        _write_metrics(folder, checkpoints.name)
        say(f"refiner written to {folder / 'refiner'} (epoch {epoch}, validation loss {val_loss:.4f})")
    trainer.strategy.barrier()
    return folder / "refiner"
