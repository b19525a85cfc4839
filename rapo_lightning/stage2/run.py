"""Runs the loop over prompts, from wherever it stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning

from datamodules import PromptDataModule

from ..console import say
from ..data.prompts import Prompt, PromptTexts
from ..data.store import Row
from ..data.trajectory import TrajectoryStore, by_prompt
from ..models import ModelPool
from ..recipe import Recipe
from ..running.callbacks import RowWriter, ScoreLine
from ..running.fellows import together
from ..running.folder import is_main_process
from ..running.trainer import predict, predict_trainer
from .loop import Loop
from .module import SspoModule
from .screening import Judge, Take
from .strategy import SSPO, Strategy


def run_loop(
    recipe: Recipe,
    prompts: Sequence[Prompt],
    folder: Path,
    records: Path,
    models: ModelPool,
    judges: Sequence[Judge],
    start: PromptTexts | None = None,
    strategy: Strategy = SSPO,
) -> list[Row]:
    """Brings every prompt's trajectory to its end, after `stage2.rounds` rounds or earlier (`stage2.stop`).

    What records or rows have already is not made again.

    Args:
        recipe: The recipe.
        prompts: The prompts.
        folder: Gets `trajectories/`.
        records: The run folder, which gets `records/` and `videos/`.
        models: The pool.
        judges: The recipe's verifiers.
        start: What round 0 is made from, if not the users' own prompts.
        strategy: How a round follows from those before it.

    Returns:
        All rows of these prompts by this recipe.
    """
    trainer = predict_trainer(recipe.trainer)
    loop = Loop(recipe, models, judges, records, trainer.global_rank, start, strategy)
    return continue_loop(loop, prompts, folder, trainer)


def continue_loop(
    loop: Loop, prompts: Sequence[Prompt], folder: Path, trainer: lightning.Trainer, tidy: bool = True
) -> list[Row]:
    """As `run_loop`, with a loop that may have been used before.

    Args:
        loop: The loop.
        prompts: The prompts.
        folder: Gets `trajectories/`.
        trainer: From `predict_trainer`, not used before.
        tidy: Whether to remove what a kill left behind; not where other runs write to the folder.
    """
    store = loop_store(loop, folder)
    if tidy and is_main_process():
        tidy_up(loop, folder)
    left = unfinished(loop, prompts, folder)
    say(f"{len(prompts)} prompts, {len(prompts) - len(left)} already complete in {folder}")
    if left:
        # Before the batch's end is looked at by the callback that ends the run when asked.
        trainer.callbacks[:0] = [RowWriter(store), ScoreLine()]  # type: ignore[attr-defined]
        stage2 = loop.recipe.stage2
        predict(trainer, SspoModule(loop), PromptDataModule(left, stage2.batch_size, stage2.rounds))
        if tidy and is_main_process():
            tidy_up(loop, folder)
        with together():
            trainer.strategy.barrier()
    return rows_of(loop, prompts, folder)


def loop_store(loop: Loop, folder: Path) -> TrajectoryStore:
    """Where a loop's rows go."""
    return TrajectoryStore(folder / "trajectories", [judge.verifier.name for judge in loop.screening.judges])


def tidy_up(loop: Loop, folder: Path) -> None:
    """Removes what a kill left behind; nobody else may be writing to the folder."""
    loop_store(loop, folder).clean()
    loop.screening.videos.clean()


def unfinished(loop: Loop, prompts: Sequence[Prompt], folder: Path) -> list[Prompt]:
    """The prompts whose trajectories lack something."""
    history = by_prompt(loop_store(loop, folder).rows(loop.recipe_hash))
    return [prompt for prompt in prompts if not _is_complete(prompt, history.get(prompt.id, []), loop)]


def _is_complete(prompt: Prompt, rounds: Sequence[Row], loop: Loop) -> bool:
    """Whether all rounds of a prompt are there, each but the last with its rewrite, and their videos are whole."""
    wanted = min([loop.recipe.stage2.rounds, *(row["round"] + 1 for row in rounds if row.get("ended"))])
    by_round: Mapping[int, Row] = {row["round"]: row for row in rounds}
    if any(number not in by_round for number in range(wanted)):
        return False
    if any(not by_round[number]["next_prompt"] for number in range(wanted - 1)):
        return False
    takes = [Take(prompt, r["prompt"], r["seed"], r["round"], loop.is_draft(r["round"])) for r in rounds]
    return all(loop.screening.is_there(take) for take in takes if take.round < wanted)


def rows_of(loop: Loop, prompts: Sequence[Prompt], folder: Path) -> list[Row]:
    """All rows of these prompts by a loop's recipe."""
    wanted = {prompt.id for prompt in prompts}
    return [row for row in loop_store(loop, folder).rows(loop.recipe_hash) if row["prompt_id"] in wanted]
