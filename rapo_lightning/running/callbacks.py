"""Callbacks of the stages: rows are written as Lightning hands them over, and a line says how it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import lightning
from lightning.pytorch.callbacks import BasePredictionWriter, TQDMProgressBar

from ..console import say
from ..data.store import PartStore, Row
from .interruption import INTERRUPTION


class RowWriter(BasePredictionWriter):
    """Appends the rows of each step to a store; they are on disk before the next step begins."""

    def __init__(self, store: PartStore) -> None:
        """Takes the store; rows that it has already are not written again."""
        super().__init__("batch")
        self.store = store
        self._known: set[tuple[Any, ...]] = set()

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Learns what is there."""
        self._known = {self._identity(row) for row in self.store.rows()}

    def _identity(self, row: Row) -> tuple[Any, ...]:
        # A last round has no rewrite; when the loop goes on, its row is written again with one.
        return (*(row[name] for name in self.store.identity), bool(row.get("next_prompt")))

    def write_on_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, prediction: Sequence[Row], *rest: Any
    ) -> None:
        """Writes the rows that are new."""
        new = [row for row in prediction if self._identity(row) not in self._known]
        if new:
            self.store.append(new)


class ScoreLine(lightning.Callback):
    """Prints a line per round with the mean score of each verifier, and gives it to the logger if there is one.

    A prompt whose trajectory ended before counts with its best round: else the means were those of the hard prompts alone.
    """

    def on_predict_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Sequence[Row], batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        """After a round."""
        if not outputs:
            return
        ended = pl_module.ended(batch)
        counted = [*outputs, *ended]
        columns = sorted({name for row in counted for name in row if name.startswith("score_")})
        values = {name: [row[name] for row in counted if row.get(name) is not None] for name in columns}
        means = {name.removeprefix("score_"): sum(v) / len(v) for name, v in values.items() if v}
        parts = ("generate", "judge", "rewrite")
        seconds = sum(row[f"seconds_{part}"] for row in outputs for part in parts) / max(len(outputs), 1)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
        before = f", {len(ended)} ended before" if ended else ""
        say(f"round {batch.round}: {len(outputs)} videos, {seconds:.2f} s each{before}  {shown}")
        if trainer.logger is not None:
            trainer.logger.log_metrics(
                {f"round_{batch.round}/{name}": value for name, value in means.items()}, batch_idx
            )


class QuietBar(TQDMProgressBar):
    """Lightning's progress bar without the number of a log folder, which says nothing to a user."""

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bar."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class AlignmentLine(lightning.Callback):
    """Prints a line per batch of stage 1 with what was chosen."""

    def on_predict_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Sequence[Row], batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        """After a batch."""
        merged = sum(len(row["merges"]) for row in outputs)
        shares = ", ".join(
            f"{count} {choice}" for choice, count in Counter(row["choice"] for row in outputs).most_common()
        )
        say(f"stage 1: {len(outputs)} prompts, {merged} modifiers merged, chosen: {shares}")


class EndWhenAsked(lightning.Callback):
    """Ends a Trainer's run after the batch in which the process was asked to end."""

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """After the writers of the batch."""
        INTERRUPTION.check()

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A training goes on from its last checkpoint."""
        INTERRUPTION.check()
