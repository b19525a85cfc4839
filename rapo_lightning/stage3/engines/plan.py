"""One training of an adapter: what it is made of, and where it is kept; no model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from datamodules import PairDataModule
from datamodules.pairs import fitting

from ...checkpoints import identity
from ...errors import UserError
from ...recipe import Recipe, Stage3
from ...recipe.identity import digest
from ...recipe.objectives import objective_parts
from ...running.trainer import training_precision
from ..objectives import OBJECTIVES, Engine, PreferenceAccuracy
from ..packing import packing_of
from ..pairs import PairViews

_SHAPE_RESULT = (
    "callbacks", "gradient_clip_algorithm", "gradient_clip_val", "limit_train_batches", "limit_val_batches", "max_steps",
    "overfit_batches",
)  # fmt: skip
"""Options of `trainer` that change what is learned; devices and loggers do not."""
_SHARED = ("lora", "max_length", "patience")
"""Settings of stage 3 that change what is learned by any objective; the pairs are counted as they are, with their
instruction."""
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Phase:
    """A part of a training, with one objective.

    Attributes:
        objective: Its name.
        lr: Peak learning rate.
        epochs: Passes over its view of the pairs.
    """

    objective: str
    lr: float
    epochs: int


def phases(stage3: Stage3) -> list[Phase]:
    """The parts of a training: one objective, or two on the same adapter."""
    found = []
    for name in objective_parts(stage3.objective):
        if name in ("sft", "weighted_sft"):
            found.append(Phase(name, stage3.optimizer.lr, stage3.epochs))
        else:
            section = getattr(stage3, name)
            found.append(Phase(name, section.lr, section.epochs))
    return found


def engine_of(stage3: Stage3, objective: str) -> Engine:
    """The engine that trains an objective.

    Raises:
        UserError: If the recipe names one that cannot.
    """
    able = OBJECTIVES[objective].engines
    if stage3.engine == "auto":
        return able[0]
    if stage3.engine not in able:
        raise UserError(
            f"`stage3.engine` must be one that trains {objective}: {', '.join(able)}. Got {stage3.engine!r}; leave it out, or "
            "choose another objective."
        )
    return stage3.engine


class Plan:
    """One training and its folder of checkpoints; nothing is written by making one."""

    def __init__(
        self, recipe: Recipe, folder: Path, phase: Phase, base: str, views: PairViews, start: str = ""
    ) -> None:
        """Names the training by what it is made of.

        Args:
            recipe: The recipe.
            folder: The run's folder.
            phase: Objective, rate and epochs.
            base: Name of the base model's checkpoint, which must be here.
            views: The pairs.
            start: Identity of the training whose adapter it begins with; empty for a fresh one.

        Raises:
            UserError: If the view has no training rows, settings do not suit the objective, its engine cannot train it, or it
                cannot be trained in packs and should.
        """
        self.recipe, self.folder, self.phase, self.start = recipe, folder, phase, start
        self.kind = OBJECTIVES[phase.objective]
        self.engine = engine_of(recipe.stage3, phase.objective)
        self.precision = training_precision(recipe.trainer)
        self.rows = _rows(views, self.kind.view)
        self.preferences = _rows(views, "preference")["validation"]
        self._refuse_none(views)
        self.kind.check(recipe.stage3, self.rows["train"])
        self.packing = packing_of(recipe, base) if self.engine == "lightning" else "padding"
        stage3 = asdict(recipe.stage3)
        # The rate is the phase's, and how pairs lie in forward passes is the machine's too.
        elsewhere = ("lr", "packing", "pack_tokens")
        optimizer = {name: value for name, value in stage3["optimizer"].items() if name not in elsewhere}
        optimizer["pack_tokens"] = self.pack_tokens
        chosen_by = [self.monitor, self.preferences if self.monitor[0] == "val_preference" else None]
        settings = [*(stage3[name] for name in _SHARED), optimizer, stage3.get(phase.objective), chosen_by]
        options = {name: recipe.trainer[name] for name in _SHAPE_RESULT if name in recipe.trainer}
        made_of = [
            asdict(phase),
            self.engine,
            settings,
            options,
            self.precision,
            recipe.seed,
            identity(base),
            start,
            self.kind.made_of(recipe),
        ]
        self.identity = digest([*made_of, self.rows])
        self.checkpoints = folder / "checkpoints" / self.identity
        self.is_trial = bool(recipe.trainer.get("fast_dev_run"))
        """Whether a few batches are tried and nothing is kept."""

    def _refuse_none(self, views: PairViews) -> None:
        if not self.rows["train"]:
            raise UserError(
                f"`stage3.objective: {self.phase.objective}` learns from {self.kind.wants}. Got none among the training rows of "
                f"{views.funnel.source}; see `finetune --dry_run true`, relax `stage3.pairs` or `stage3.views`, or choose "
                "another objective."
            )

        if self.monitor[0] == "val_preference" and not (self.preferences and self.kind.knows_preferences):
            why = "no held-out preferences" if self.kind.knows_preferences else f"the objective {self.phase.objective}"
            raise UserError(
                "`stage3.best_by: val_preference` chooses by held-out requests with a round that the filters keep and a worse one. "
                f"Got {why}; take `val_loss`, or look at `finetune --dry_run true`."
            )

    @property
    def pack_tokens(self) -> int:
        """Most tokens of a pack, 0 where pairs are padded."""
        return self.recipe.stage3.optimizer.pack_tokens if self.packing == "packs" else 0

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """What chooses the best epoch, and whether less or more of it is better."""
        best_by = self.recipe.stage3.best_by
        return self.kind.monitor or (best_by, "min" if best_by == "val_loss" else "max")

    @property
    def monitored(self) -> tuple[str, Literal["min", "max"]] | None:
        """`monitor`, or None where there are no held-out rows for it."""
        held_out = self.preferences if self.monitor[0] == "val_preference" else self.rows["validation"]
        return self.monitor if held_out and self.rows["validation"] else None

    def data(self, tokenizer: Any) -> PairDataModule:
        """The tokenized pairs.

        Args:
            tokenizer: Of the base model.

        Raises:
            UserError: If no training pair fits into `stage3.max_length`, or there are validation pairs and none fits.
        """
        stage3 = self.recipe.stage3
        objective, accuracy = self.kind(stage3, tokenizer), PreferenceAccuracy(stage3, tokenizer)
        training, validation = (
            fitting(objective.examples(self.rows[side], side == "train"), objective, stage3.max_length, kind)
            for side, kind in (("train", "training"), ("validation", "validation"))
        )
        held_out = accuracy.examples(self.preferences, False) if self.kind.view == "sft" and self.preferences else []
        kept = [example for example in held_out if accuracy.length(example) <= stage3.max_length]
        sizes = stage3.optimizer.micro_batch_size, stage3.optimizer.batch_size
        return PairDataModule(
            training, validation, objective, *sizes, self.recipe.seed, kept, accuracy, self.pack_tokens
        )


def _rows(views: PairViews, name: str) -> dict[str, Rows]:
    return {side: rows.to_list() for side, rows in views.view(name).items()}
