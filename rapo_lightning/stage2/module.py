"""SSPO as a LightningModule in predict mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import lightning

from ..data.prompts import Prompt, RoundBatch
from ..data.stopping import counted_row
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
        """Runs a round of those prompts of a batch whose trajectories have not ended, and returns its rows."""
        prompts = [prompt for prompt in batch.prompts if not self._has_ended(prompt, batch.round)]
        if not prompts:
            return []
        histories = [self.rounds.setdefault(prompt.id, [])[: batch.round] for prompt in prompts]
        rows = self.loop.run_round(batch.round, prompts, histories)
        for prompt, history, row in zip(prompts, histories, rows, strict=True):
            self.rounds[prompt.id] = [*history, row]
        return rows

    def _has_ended(self, prompt: Prompt, number: int) -> bool:
        """Whether a prompt's trajectory ended before a round."""
        before = self.rounds.get(prompt.id, [])[:number]
        return bool(before and before[-1].get("ended"))

    def ended(self, batch: RoundBatch) -> list[Row]:
        """What the prompts count with whose trajectories ended before a round: the best row of each."""
        ranking = self.loop.recipe.stage2.ranking
        return [
            counted_row(self.rounds[prompt.id], batch.round, ranking)
            for prompt in batch.prompts
            if self._has_ended(prompt, batch.round)
        ]
