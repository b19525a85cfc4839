"""RAPO as a LightningModule in predict mode."""

from __future__ import annotations

from collections import Counter

import lightning

from ..console import say
from ..data.prompts import Prompt
from ..models import Residency
from ..recipe import Recipe
from .align import Aligner, AlignModels
from .rows import AlignedStore


class RapoModule(lightning.LightningModule):
    """Aligns batches of prompts and appends each batch to the store.

    The models are plain attributes and no submodules, as in `stage2.SspoModule`.
    """

    def __init__(self, recipe: Recipe, models: AlignModels, store: AlignedStore) -> None:
        """Takes everything from outside.

        Args:
            recipe: The recipe.
            models: Built models, not yet loaded.
            store: Where rows go.
        """
        super().__init__()
        self.recipe, self.store = recipe, store
        # In a tuple, since Lightning would register the discriminator, a module, as a part of this one.
        self.models = (models,)
        self.aligner: Aligner | None = None

    def on_predict_start(self) -> None:
        """Learns the device; weights are loaded by the first phase that needs them."""
        self.aligner = Aligner(self.recipe, self.models[0], Residency(self.device, self.recipe.residency))

    def predict_step(self, batch: list[Prompt], batch_idx: int) -> None:
        """Aligns a batch."""
        assert self.aligner is not None
        rows = self.aligner.run(batch)
        self.store.append(rows)
        counts = Counter(row["choice"] for row in rows)
        merged = sum(len(row["merges"]) for row in rows)
        shares = ", ".join(f"{count} {choice}" for choice, count in counts.most_common())
        say(f"stage 1: {len(rows)} prompts, {merged} modifiers merged, chosen: {shares}")
