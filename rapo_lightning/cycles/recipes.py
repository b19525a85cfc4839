"""The recipes of a loop's cycles: each collects from the refiner before, and trains on all that was collected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..recipe import Recipe

ANY = -1.0
"""A cosine that every text has: a refiner's answer is the start, however far it is from the request."""


def cycle_folder(folder: Path, number: int) -> Path:
    """Run folder of a cycle, counted from 1."""
    return folder / f"cycle-{number}"


def cycle_recipe(recipe: Recipe, folder: Path, number: int) -> Recipe:
    """The recipe by which a cycle collects and trains (the order of cycles is ours; the paper has one).

    A later cycle starts from stage 1 with the refiner of the cycle before as its rewriter and nothing else of it: no graph,
    no discriminator, no carry-over. A request that the refiner has no answer to is rewritten by instruction.

    Args:
        recipe: The loop's recipe, whose own start is the first cycle's.
        folder: The loop's folder.
        number: The cycle, from 1.
    """
    runs = [str(cycle_folder(folder, earlier)) for earlier in range(1, number + 1)]
    own = replace(recipe, stage3=replace(recipe.stage3, runs=[*recipe.stage3.runs, *runs]))
    if number == 1:
        return own
    refiner = str(cycle_folder(folder, number - 1) / "refiner")
    stage1 = replace(
        recipe.stage1, rewriter=refiner, discriminator="", examples="", carry_over=False, faithfulness=ANY
    )  # fmt: skip
    return replace(own, graph="", stage1=stage1, stage2=replace(recipe.stage2, start="stage1"))


def evaluation_recipe(recipe: Recipe) -> Recipe:
    """The recipe by which a cycle is evaluated: its refiner against the raw prompts, on the prompts and seeds of all cycles.

    Args:
        recipe: The loop's recipe.
    """
    arms = replace(recipe.evaluation, arms=["raw", "refiner"], compare="raw", baselines={}, variants={})
    return replace(recipe, evaluation=arms)
