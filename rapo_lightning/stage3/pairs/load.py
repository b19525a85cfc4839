"""From a recipe to the views of its pairs."""

from __future__ import annotations

from pathlib import Path

from ...data.store import Row
from ...errors import UserError
from ...recipe import Recipe
from ...recipe.pairs import build_filters, build_reader
from ...running.folder import rows_of_recipe, rows_of_run
from .candidates import trajectory_candidates
from .filter import Candidate, Context
from .funnel import Funnel, refuse_none, select
from .hindsight import with_hindsight
from .ready import ready_candidates
from .views import PairViews


def load_pairs(recipe: Recipe, folder: Path, ready: str = "") -> PairViews:
    """The views of a run's pairs, of several runs', or of ready pairs.

    Args:
        recipe: The recipe; `stage3` says what is read and kept.
        folder: The run folder, whose trajectories are read where neither `stage3.runs` nor `ready` names others.
        ready: File or dataset of ready pairs; see `ready_candidates`.

    Raises:
        UserError: If there is nothing to read, a filter cannot work, or none passes the filters.
    """
    if ready and recipe.stage3.runs:
        raise UserError(
            f"Pairs come from runs or from `--pairs`. Got {', '.join(recipe.stage3.runs)} and {ready}; leave one out."
        )
    filters, reader = build_filters(recipe.stage3), build_reader(recipe.stage3)
    candidates: list[Candidate]
    hashes: list[str] = []
    if ready:
        (candidates, incomplete), source = ready_candidates(ready), Path(ready).name
    else:
        runs, incomplete = _runs(recipe, folder), 0
        candidates, source = trajectory_candidates(runs), ", ".join(runs)
        hashes = list(dict.fromkeys(row["recipe_hash"] for rows in runs.values() for row in rows))
    context = Context(recipe.stage2.ranking, recipe.stage1.captions, reader)
    stage3 = recipe.stage3
    asked = 0.0 if ready else stage3.hindsight, stage3.hindsight_most, stage3.hindsight_others
    steps = with_hindsight(select(candidates, filters, context), *asked)
    funnel = Funnel(source, steps, incomplete, hashes)
    refuse_none(funnel)
    views = PairViews(funnel, recipe.stage3, recipe.stage2.ranking)
    if all(views.split.is_validation(candidate) for candidate in funnel.kept):
        raise UserError(
            f"Fine-tuning needs training pairs. Got {len(funnel.kept)} pairs from {source}, all of them in its split "
            "`validation`; relax the filters in `stage3.pairs`, or split the dataset anew."
        )
    return views


def _runs(recipe: Recipe, folder: Path) -> dict[str, list[Row]]:
    """Rows of each run, of the recipe that made them, by the run's name."""
    places = recipe.stage3.runs
    if not places:
        return {folder.name: rows_of_recipe(recipe, folder)}
    if len({Path(place).resolve() for place in places}) < len(places):
        raise UserError(f"`stage3.runs` names each run once. Got {', '.join(places)}; leave the repeated one out.")
    names = [Path(place).name for place in places]
    unique = len(set(names)) == len(names)
    return {
        name if unique else place: rows_of_run(Path(place))[0] for name, place in zip(names, places, strict=True)
    }  # fmt: skip
