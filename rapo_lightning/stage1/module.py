"""RAPO as a LightningModule in predict mode."""

from __future__ import annotations

import lightning

from ..data.prompts import RoundBatch
from ..data.store import Row
from .align import Aligner


class RapoModule(lightning.LightningModule):
    """Aligns batches of prompts.

    The models are the pool's and no submodules, as in `stage2.SspoModule`.
    """

    def __init__(self, aligner: Aligner) -> None:
        """Takes what aligns a batch."""
        super().__init__()
        # In a tuple, since Lightning would register the discriminator, a module, as a part of this one.
        self._aligner = (aligner,)

    def on_predict_start(self) -> None:
        """Learns the device; weights are loaded by the first phase that needs them."""
        self._aligner[0].models.place_on(self.device)

    def predict_step(self, batch: RoundBatch, batch_idx: int) -> list[Row]:
        """Aligns a batch and returns its rows."""
        return self._aligner[0].run(batch.prompts)
