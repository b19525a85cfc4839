"""`export`: a run's trajectories as CSV, prompt files for benchmarks, training pairs as parquet, and its refiner for others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..console import say
from ..errors import UserError

if TYPE_CHECKING:
    from ..data.interchange import RefinedPrompt

_REFINED = "The CSV of refined prompts"


def export(
    run: str,
    /,
    *,
    csv: str = "",
    prompts: str = "",
    samples: int = 1,
    views: str = "",
    filters: str = "",
    push: str = "",
    merged: str = "",
    push_refiner: str = "",
    private: bool = True,
) -> None:
    """Write a run's trajectories as CSV, its best prompts for a benchmark, its training pairs, or its refiner for others.

    Args:
        run: Run folder; for `--prompts` also a CSV that `refine --input` wrote, for `--merged` and `--push_refiner` also a
            refiner's own folder.
        csv: CSV to write: every row with all columns, lists as JSON.
        prompts: Folder to write: prompts.csv, prompt_file.json (VBench), source.txt and refined.txt, with videos named after the
            users' prompts.
        samples: Videos of each prompt that the benchmark asks for (VBench: 5).
        views: Folder to write: training pairs as parquet, for supervised (sft), preference and unpaired training with TRL.
        filters: Recipe whose `stage3` chooses the pairs; default: the run's own.
        push: Dataset on the hub, OWNER/NAME, that gets the views too.
        merged: Folder to write: the refiner merged into its base, a model that transformers alone loads.
        push_refiner: Model on the hub, OWNER/NAME, that gets the refiner's folder with its card.
        private: Whether what `--push` and `--push_refiner` make is seen by its owner alone.

    Raises:
        UserError: If none is asked for, or the run has no trajectories or no refiner.
    """
    if not (csv or prompts or views or merged or push_refiner):
        raise UserError(
            "`export` needs `--csv FILE`, `--prompts FOLDER`, `--views FOLDER`, `--merged FOLDER` or `--push_refiner OWNER/NAME`. "
            "Got none of them; name what to write."
        )
    if samples < 1:
        raise UserError(f"`--samples` must be 1 or more. Got {samples}.")
    _check_push(push, views)
    _check_refiner(run, merged, push_refiner)
    for name, place in (("prompts", prompts), ("views", views)):
        if place and Path(place).is_file():
            raise UserError(f"`--{name}` must be a folder. Got {place!r}, which is a file; name another.")
    if csv:
        _export_csv(Path(run), Path(csv))
    if prompts:
        _export_prompts(Path(run), Path(prompts), samples)
    if views:
        _export_views(Path(run), Path(views), filters)
    if push:
        from ..stage3.pairs.files import push_views

        push_views(Path(views), push, private)
    if merged or push_refiner:
        _export_refiner(run, merged, push_refiner, private)


def _is_repository(text: str) -> bool:
    owner, _, name = text.partition("/")
    return bool(owner and name and "/" not in name)


def _check_refiner(run: str, merged: str, repository: str) -> None:
    """Looks at what can be wrong with a refiner's export before anything is written."""
    from ..stage3.merged import check_target, refiner_of_run

    if repository and not _is_repository(repository):
        raise UserError(f"`--push_refiner` needs OWNER/NAME. Got {repository!r}; name both.")
    if merged or repository:
        refiner_of_run(run)
    if merged:
        check_target(Path(merged))


def _export_refiner(run: str, merged: str, repository: str, private: bool) -> None:
    from ..stage3.hub import push_folder
    from ..stage3.merged import refiner_of_run, write_merged

    settings = refiner_of_run(run)
    if merged:
        write_merged(settings, Path(merged))
    if repository:
        push_folder(settings.path, repository, private, "model", "The refiner")


def _check_push(repository: str, folder: str) -> None:
    if repository and not (folder and _is_repository(repository)):
        raise UserError(
            f"`--push` needs OWNER/NAME, and `--views FOLDER` to write first. Got {repository!r} and {folder!r}; name both."
        )


def _export_csv(run: Path, path: Path) -> None:
    from ..data.interchange import trajectory_csv
    from ..data.trajectory import read_rows
    from ..running.folder import write_text

    rows = read_rows(run / "trajectories")
    if not rows:
        raise UserError(
            f"`export --csv` needs a run folder with trajectories. Got {str(run)!r}; run `collect` or `import` first."
        )
    write_text(path, trajectory_csv(rows))
    say(f"{len(rows)} rows in {path}")


def _export_prompts(run: Path, folder: Path, samples: int) -> None:
    from ..data.interchange import benchmark_files
    from ..running.folder import write_text

    found = _refined(run)
    for name, text in benchmark_files(found, samples).items():
        write_text(folder / name, text)
    changed = sum(item.text != item.source for item in found)
    say(f"{len(found)} prompts in {folder}, {changed} of them refined")


def _export_views(run: Path, folder: Path, filters: str) -> None:
    from ..recipe.files import load_recipe, recipe_path
    from ..running.folder import recipe_of_run
    from ..stage3.pairs import load_pairs
    from ..stage3.pairs.files import write_views

    recipe = recipe_of_run(run)
    if filters:
        recipe.stage3 = load_recipe(recipe_path(filters)).stage3
    found = load_pairs(recipe, run)
    say(str(found.funnel))
    write_views(found, folder)


def _refined(run: Path) -> list[RefinedPrompt]:
    """What each prompt became, by the best round of a run or in a CSV of `refine`; in the order of the prompts' text."""
    from ..data.interchange import RefinedPrompt
    from ..data.ranking import best_round
    from ..data.tables import read_table
    from ..data.trajectory import by_prompt
    from ..running.folder import rows_of_run

    if run.is_file():
        columns, table = read_table(run, _REFINED)
        if not {"prompt", "refined"} <= set(columns) or not table:
            raise UserError(f"{_REFINED} needs the columns prompt and refined, and a row. Got {columns} in {run}.")
        # A prompt that has two laws is there twice.
        return [RefinedPrompt(*texts) for texts in dict.fromkeys((row["prompt"], "", row["refined"]) for row in table)]
    rows, ranking = rows_of_run(run)
    best = [best_round(rounds, ranking) for rounds in by_prompt(rows).values()]
    found = [RefinedPrompt(row["source_prompt"], row["phys_law"], row["prompt"]) for row in best]
    return sorted(found, key=lambda item: (item.source, item.phys_law))
