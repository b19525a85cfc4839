"""Prompts for the stages that run in predict mode, sharded by hand so that resuming never starves a rank."""

from __future__ import annotations

from collections.abc import Sequence

import lightning
import torch
from torch.utils.data import DataLoader

from rapo_lightning.data.prompts import Prompt, RoundBatch, Share


class PromptDataModule(lightning.LightningDataModule):
    """Gives each rank its share of the prompts that are left, in batches that go through all rounds before the next.

    Use with `Trainer(use_distributed_sampler=False)`: Lightning's own sampler fails when a resumed run has fewer prompts
    left than ranks.
    """

    def __init__(self, prompts: Sequence[Prompt], batch_size: int, rounds: int = 1) -> None:
        """Takes the prompts that are left to do.

        Args:
            prompts: The same on every rank.
            batch_size: Prompts per batch.
            rounds: Rounds of each batch; stages without rounds have one.
        """
        super().__init__()
        self.prompts, self.batch_size, self.rounds = list(prompts), batch_size, rounds
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def predict_dataloader(self) -> DataLoader[RoundBatch]:
        """Steps of this rank, one `RoundBatch` each."""
        rank = self.trainer.global_rank if self.trainer else 0
        world = self.trainer.world_size if self.trainer else 1
        share = Share(rank, world).of(self.prompts)
        batches = [share[begin : begin + self.batch_size] for begin in range(0, len(share), self.batch_size)]
        steps = [RoundBatch(number, batch) for batch in batches for number in range(self.rounds)]
        return DataLoader(steps, batch_size=1, collate_fn=lambda items: items[0])  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: RoundBatch, device: torch.device, dataloader_idx: int) -> RoundBatch:
        """Prompts are text: nothing to move (and Lightning refuses frozen dataclasses)."""
        return batch
