"""SSPO as a LightningModule in predict mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import lightning

from ..data.prompts import RoundBatch
from ..data.store import Row
from .loop import Loop


class SspoModule(lightning.LightningModule):
    """Runs the closed loop over batches of prompts, a round of a batch each step.

    The models are the pool's and no submodules: Lightning would move and broadcast every submodule, which undoes
    offloading.
    """

    def __init__(self, loop: Loop, history: Mapping[str, Sequence[Row]] | None = None) -> None:
        """Takes everything from outside.

        Args:
            loop: Runs a round.
            history: Rounds that are there already, by prompt id.
        """
        super().__init__()
        self.loop = loop
        self.rounds: dict[str, list[Row]] = {key: list(rows) for key, rows in (history or {}).items()}

    def on_predict_start(self) -> None:
        """Learns the device; weights are loaded by the first phase that needs them."""
        self.loop.models.place_on(self.device)

    def predict_step(self, batch: RoundBatch, batch_idx: int) -> list[Row]:
        """Runs a round of a batch and returns its rows."""
        histories = [self.rounds.setdefault(prompt.id, [])[: batch.round] for prompt in batch.prompts]
        rows = self.loop.run_round(batch.round, batch.prompts, histories)
        for prompt, history, row in zip(batch.prompts, histories, rows, strict=True):
            self.rounds[prompt.id] = [*history, row]
        return rows
