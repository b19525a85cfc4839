"""One process of a collection: stage 1, where the loop starts from it, and the loop, over any number of prompt lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.prompts import Prompt, PromptTexts, fixed_texts
from ..data.store import Row
from ..models import ModelPool
from ..recipe import Recipe
from ..running.memory_measured import remembered
from ..running.pool import open_pool
from ..running.trainer import predict_trainer
from ..stage1.align import AlignParts
from ..stage1.run import align_prompts
from ..stage2.judges import build_judges
from ..stage2.loop import Loop
from ..stage2.run import continue_loop, rows_of, tidy_up, unfinished


class CollectionWorker:
    """Runs prompts through all rounds; models are loaded once, by the first prompts that need them.

    Every door into a collection is made of these: Lightning's processes and the shards of a job array are one each, and
    so is a worker of Ray. Several may write to one run folder: each has record files of its own, rows are parts with
    names of their own, and all are joined on reading.
    """

    def __init__(self, recipe: Recipe, folder: Path, name: str = "", tidy: bool = True) -> None:
        """Builds everything; no weights are loaded, so what is wrong with a recipe is found here.

        Args:
            recipe: The recipe.
            folder: The run folder.
            name: Name of this worker's records, before the rank; no other that writes to the folder has it.
            tidy: Whether to remove what a kill left behind; not where others write to the folder at the same time.

        Raises:
            UserError: If a model, verifier or part of stage 1 is not usable.
        """
        self.recipe, self.folder, self.name, self.tidy = recipe, folder, name, tidy
        self.models: ModelPool = open_pool(recipe)
        self.judges = build_judges(recipe)
        self.parts = AlignParts.from_recipe(recipe, self.models) if recipe.stage2.start == "stage1" else None
        self._loop: Loop | None = None

    def loop(self, rank: int = 0) -> Loop:
        """The loop; needs the models' files, whose contents decide what is made again."""
        if self._loop is None:
            process = f"{self.name}-{rank}" if self.name else rank
            self._loop = Loop(self.recipe, self.models, self.judges, self.folder, process)
        return self._loop

    def left(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts that are not done; what a kill left behind is removed first."""
        if self.tidy:
            tidy_up(self.loop(), self.folder)
        return unfinished(self.loop(), prompts, self.folder)

    def rows(self, prompts: Sequence[Prompt]) -> list[Row]:
        """All rows of these prompts by this recipe."""
        return rows_of(self.loop(), prompts, self.folder)

    def run(self, prompts: Sequence[Prompt]) -> list[Row]:
        """Brings prompts to their last round.

        Returns:
            All rows of these prompts.

        Raises:
            RunError: If something cannot be written, or the process was asked to end.
        """
        start = self._start(prompts)
        trainer = predict_trainer(self.recipe.trainer)
        loop = self.loop(trainer.global_rank)
        loop.start = start
        # What a worker that died has recorded of these prompts is not made again.
        loop.records.refresh()
        with remembered(self.recipe):
            return continue_loop(loop, prompts, self.folder, trainer, self.tidy)

    def _start(self, prompts: Sequence[Prompt]) -> PromptTexts | None:
        if self.parts is None:
            return None
        aligned = align_prompts(self.recipe, prompts, self.folder / "aligned", self.models, self.parts, self.tidy)
        return fixed_texts({identity: row["prompt"] for identity, row in aligned.items()})


def alone(options: dict[str, Any]) -> dict[str, Any]:
    """A recipe's `trainer` section for a process that shares its work with nobody Lightning knows of."""
    skipped = ("devices", "num_nodes", "strategy", "plugins", "logger")
    return {**{name: value for name, value in options.items() if name not in skipped}, "devices": 1}
