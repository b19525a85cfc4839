"""`export`: a run's trajectories as CSV, and prompt files for benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..console import say
from ..errors import UserError

if TYPE_CHECKING:
    from ..data.interchange import RefinedPrompt

_REFINED = "The CSV of refined prompts"


def export(run: str, /, *, csv: str = "", prompts: str = "", samples: int = 1) -> None:
    """Write a run's trajectories as CSV, or its best prompts for a benchmark.

    Args:
        run: Run folder; for `--prompts` also a CSV that `refine --input` wrote.
        csv: CSV to write: every row with all columns, lists as JSON.
        prompts: Folder to write: prompts.csv, prompt_file.json (VBench), source.txt and refined.txt, with videos named after the
            users' prompts.
        samples: Videos of each prompt that the benchmark asks for (VBench: 5).

    Raises:
        UserError: If neither is asked for, or the run has no trajectories.
    """
    from ..data.interchange import benchmark_files, trajectory_csv
    from ..data.trajectory import read_rows
    from ..running.folder import write_text

    if not csv and not prompts or samples < 1:
        raise UserError(
            "`export` needs `--csv FILE` or `--prompts FOLDER`, and `--samples` of at least 1. Got "
            f"{csv!r}, {prompts!r} and {samples}; name what to write."
        )
    rows = read_rows(Path(run) / "trajectories") if csv else []
    if csv and not rows:
        raise UserError(
            f"`export --csv` needs a run folder with trajectories. Got {run!r}; run `collect` or `import` first."
        )
    found = _refined(Path(run)) if prompts else []
    if csv:
        write_text(Path(csv), trajectory_csv(rows))
        say(f"{len(rows)} rows in {csv}")
    if prompts:
        for name, text in benchmark_files(found, samples).items():
            write_text(Path(prompts) / name, text)
        changed = sum(item.text != item.source for item in found)
        say(f"{len(found)} prompts in {prompts}, {changed} of them refined")


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
