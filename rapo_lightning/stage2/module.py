"""SSPO as a LightningModule in predict mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import lightning

from ..console import say
from ..data.prompts import Prompt
from ..data.trajectory import Row, TrajectoryStore
from ..data.videos import VideoWriter
from ..models import Residency
from ..prompting.choosing import PromptChooser
from ..recipe import Recipe
from .loop import Loop, LoopModels


class SspoModule(lightning.LightningModule):
    """Runs the closed loop over batches of prompts and appends each round to the store before the next begins.

    The models are plain attributes and no submodules: Lightning would move and broadcast every submodule, which undoes
    offloading.
    """

    def __init__(
        self,
        recipe: Recipe,
        models: LoopModels,
        store: TrajectoryStore,
        writer: VideoWriter | None,
        history: Mapping[str, Sequence[Row]],
        starter: PromptChooser | None = None,
    ) -> None:
        """Takes everything from outside.

        Args:
            recipe: The recipe.
            models: Built models, not yet loaded.
            store: Where rows go.
            writer: Where videos go; None writes none.
            history: Rounds that earlier runs finished, by prompt id.
            starter: Gives the prompts of round 0 by prompt id, where they are not the users' own.
        """
        super().__init__()
        self.recipe, self.store, self.writer = recipe, store, writer
        self.models, self.history, self.starter = models, history, starter
        self.loop: Loop | None = None

    def on_predict_start(self) -> None:
        """Learns the device; weights are loaded by the first phase that needs them."""
        self.loop = Loop(self.recipe, self.models, Residency(self.device, self.recipe.residency), self.writer)

    def predict_step(self, batch: list[Prompt], batch_idx: int) -> None:
        """Runs all open rounds of a batch."""
        assert self.loop is not None
        rounds = {prompt.id: list(self.history.get(prompt.id, [])) for prompt in batch}
        for number in range(self.recipe.stage2.rounds):
            due = [prompt for prompt in batch if len(rounds[prompt.id]) == number]
            if not due:
                continue
            starts = self.starter(due, self.loop.residency) if self.starter and not number else {}
            rows = [
                self.loop.next_row(rounds[p.id][-1]) if number else self.loop.first_row(p, starts.get(p.id))
                for p in due
            ]
            is_last = number == self.recipe.stage2.rounds - 1
            done = self.loop.run_round([rounds[prompt.id] for prompt in due], rows, is_last)
            self.store.append(done)
            for prompt, row in zip(due, done, strict=True):
                rounds[prompt.id].append(row)
            self._report(number, done)

    def on_predict_end(self) -> None:
        """Waits for the last videos."""
        if self.writer is not None:
            self.writer.flush()

    def _report(self, number: int, rows: Sequence[Row]) -> None:
        names = [verifier.name for verifier in self.models.verifiers]
        scores = [(name, [row[f"score_{name}"] for row in rows if row[f"score_{name}"] is not None]) for name in names]
        means = "  ".join(f"{name} {sum(values) / max(len(values), 1):.3f}" for name, values in scores)
        seconds = sum(rows[0][f"seconds_{part}"] for part in ("generate", "judge", "rewrite"))
        say(f"round {number}: {len(rows)} videos, {seconds:.2f} s each  {means}")
