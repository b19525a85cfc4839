"""Prompts for the stages that run in predict mode, sharded by hand so that resuming never starves a rank."""

from __future__ import annotations

from collections.abc import Sequence

import lightning
import torch
from torch.utils.data import DataLoader

from rapo_lightning.data.prompts import Prompt


class PromptDataModule(lightning.LightningDataModule):
    """Gives each rank every n-th of the prompts that are left.

    Use with `Trainer(use_distributed_sampler=False)`: Lightning's own sampler fails when a resumed run has fewer prompts
    left than ranks.
    """

    def __init__(self, prompts: Sequence[Prompt], batch_size: int) -> None:
        """Takes the prompts that are left to do.

        Args:
            prompts: In the same order on every rank.
            batch_size: Prompts per batch.
        """
        super().__init__()
        self.prompts, self.batch_size = list(prompts), batch_size
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def predict_dataloader(self) -> DataLoader[Prompt]:
        """Batches are plain lists of `Prompt`."""
        rank = self.trainer.global_rank if self.trainer else 0
        world = self.trainer.world_size if self.trainer else 1
        share = self.prompts[rank::world]
        return DataLoader(share, batch_size=self.batch_size, collate_fn=list)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: list[Prompt], device: torch.device, dataloader_idx: int) -> list[Prompt]:
        """Prompts are text: nothing to move (and Lightning refuses frozen dataclasses)."""
        return batch
