"""Runs the loop over prompts, from wherever it stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules import PromptDataModule

from ..console import say
from ..data.prompts import Prompt, PromptTexts
from ..data.store import Row
from ..data.trajectory import TrajectoryStore, by_prompt
from ..models import ModelPool
from ..recipe import Recipe
from ..running.callbacks import RowWriter, ScoreLine
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
    """Brings every prompt's trajectory to `stage2.rounds` rounds; what records or rows have already is not made again.

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
    store = TrajectoryStore(folder / "trajectories", [judge.verifier.name for judge in judges])
    if is_main_process():
        store.clean()
        loop.screening.videos.clean()
    history = by_prompt(store.rows(loop.recipe_hash))
    left = [prompt for prompt in prompts if not _is_complete(prompt, history.get(prompt.id, []), loop)]
    say(f"{len(prompts)} prompts, {len(prompts) - len(left)} already complete in {folder}")
    if left:
        # Before the batch's end is looked at by the callback that ends the run when asked.
        trainer.callbacks[:0] = [RowWriter(store), ScoreLine()]  # type: ignore[attr-defined]
        predict(trainer, SspoModule(loop), PromptDataModule(left, recipe.stage2.batch_size, recipe.stage2.rounds))
        if is_main_process():
            store.clean()
            loop.screening.videos.clean()
        trainer.strategy.barrier()
    return _rows_of(store.rows(loop.recipe_hash), prompts)


def _is_complete(prompt: Prompt, rounds: Sequence[Row], loop: Loop) -> bool:
    """Whether all rounds of a prompt are there, each but the last with its rewrite, and their videos are whole."""
    wanted = loop.recipe.stage2.rounds
    by_round: Mapping[int, Row] = {row["round"]: row for row in rounds}
    if any(number not in by_round for number in range(wanted)):
        return False
    if any(not by_round[number]["next_prompt"] for number in range(wanted - 1)):
        return False
    return all(loop.screening.is_there(Take(prompt, r["prompt"], r["seed"])) for r in rounds if r["round"] < wanted)


def _rows_of(rows: Sequence[Row], prompts: Sequence[Prompt]) -> list[Row]:
    wanted = {prompt.id for prompt in prompts}
    return [row for row in rows if row["prompt_id"] in wanted]
