"""`loop`: collect, finetune and evaluate in cycles, each from the refiner of the cycle before."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..console import say
from ..errors import UserError
from ..recipe import Recipe
from ..recipe.files import recipe_text
from .collect import collect
from .finetune import finetune

if TYPE_CHECKING:
    from ..cycles.gains import Cycle
    from ..data.prompts import Prompt


def loop(recipe: Recipe, *, cycles: int, out: str = "", stop: bool = True) -> Path:
    """Collect, finetune and evaluate in cycles, each from the refiner of the one before.

    Each cycle is a run folder below the loop's, `cycle-1` and so on; `loop.json` has what each gained, and `refiner` is the best
    one's. Run again it goes on where it stopped; more cycles continue a loop that is done.

    Args:
        recipe: The recipe.
        cycles: Most cycles, those that are done too.
        out: The loop's folder; default: runs/<recipe name>.
        stop: Whether to end after a cycle whose gain over the one before, on the held-out prompts, has an interval that is not
            above zero; false goes on to the last.

    Returns:
        The loop's folder.
    """
    from ..cycles.folder import LoopFolder
    from ..cycles.gains import best_cycle, loop_table, stop_reason
    from ..running.folder import locked, run_folder, save_recipe

    held_out, metric = _checked(recipe, cycles, run_folder(recipe, out))
    done: list[Cycle] = []
    reason = ""
    with locked(run_folder(recipe, out)) as path:
        folder = LoopFolder(path)
        folder.begin(cycles)
        save_recipe(recipe_text(recipe), path, "loop")
        while not reason:
            done.append(_cycle(recipe, path, cycles, held_out, done))
            reason = stop_reason(done[-1], cycles, stop)
            folder.keep(done, metric, reason)
    say(f"\n{loop_table(done, metric)}\n{reason}.")
    say(f"{folder.refiner} is the refiner of cycle {best_cycle(done).number}.")
    return path


def _checked(recipe: Recipe, cycles: int, folder: Path) -> tuple[list[Prompt], str]:
    """The held-out prompts and the metric's name, after all that can be wrong before a model loads was looked at.

    Raises:
        UserError: If something is.
    """
    from ..collection import CollectionWorker
    from ..cycles.recipes import evaluation_recipe
    from ..data.prompts import read_prompts
    from ..evaluation.checks import check_arms, check_held_out
    from ..recipe.pairs import build_reader
    from ..recipe.verifiers import check_verifier_names
    from ..running.folder import rows_of_run
    from ..running.pool import check_refiners_base
    from ..running.trainer import check_trainer
    from ..stage2.judges import build_judge
    from ..stage3.run import base_checkpoint

    if cycles < 1:
        raise UserError(f"`--cycles` must be 1 or more. Got {cycles}.")
    check_trainer(recipe.trainer)
    if recipe.trainer.get("fast_dev_run"):
        raise UserError("A loop needs its refiners. Got `trainer.fast_dev_run`, which keeps none; leave it out.")
    if recipe.stage3.objective == "reward":
        raise UserError(
            "A loop needs a refiner in each cycle. Got `stage3.objective: reward`, which trains none; choose another."
        )
    settings = recipe.evaluation
    prompts = read_prompts(recipe.prompts, recipe.limit)
    held_out = read_prompts(settings.prompts, settings.limit, "evaluation.prompts")
    check_arms(evaluation_recipe(recipe), held_out)
    check_held_out(held_out, prompts)
    metric = build_judge(recipe, settings.metric, "evaluation.metric").verifier.name
    base_checkpoint(recipe)
    check_refiners_base(recipe)
    check_verifier_names(recipe)
    build_reader(recipe.stage3)
    for run in recipe.stage3.runs:
        rows_of_run(Path(run))
    CollectionWorker(recipe, folder)
    return held_out, metric


def _cycle(recipe: Recipe, folder: Path, cycles: int, held_out: list[Prompt], done: Sequence[Cycle]) -> Cycle:
    """Runs the next cycle; what of it is done already is not done again."""
    from ..cycles.gains import RAW, Cycle, paired_gain
    from ..cycles.recipes import cycle_folder, cycle_recipe, evaluation_recipe
    from ..evaluation.run import open_evaluator, run_arms
    from ..models.refiner_folder import read_refiner
    from ..running.folder import locked
    from ..stage3.engines.metrics import best_val_loss
    from ..stage3.pairs import load_pairs

    number = len(done) + 1
    own, run = cycle_recipe(recipe, folder, number), cycle_folder(folder, number)
    say(f"\n== cycle {number} of {cycles}: collect")
    collect(own, out=str(run))
    _free()
    say(f"\n== cycle {number} of {cycles}: finetune")
    refiner = finetune(own, out=str(run))
    _free()
    say(f"\n== cycle {number} of {cycles}: evaluate")
    # In the loop's folder, whose records all cycles share: a video that one has made no other makes again.
    with locked(run):
        evaluator = open_evaluator(evaluation_recipe(recipe), folder, held_out, refiner)
        (raw, refined), summary = run_arms(evaluator, run)
    del evaluator
    _free()
    before, over = (done[-1].scores, done[-1].name) if done else (raw.scores, RAW)
    gain = paired_gain(refined.scores, before, over)
    say(f"cycle {number} gains {gain} over {over} on {gain.n} prompts")
    split = load_pairs(own, run).view("sft")
    sizes = len(split["train"]), len(split["validation"])
    identity = read_refiner(refiner).identity()
    return Cycle(
        number, identity, *sizes, best_val_loss(run, own.stage3.best_by), summary["arms"], refined.scores, gain
    )


def _free() -> None:
    """Gives back the memory of models that nobody uses any more; the next command loads its own."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
