"""Where an arm's score is lost: `python -m rapo_lightning.lab.scripts.errors runs/lab --arm refiner`.

Writes `errors.md` from the rows of an evaluation: attribute by cause, for each wording of the requests. `--sheet 50` draws failures for
a reading by eye (the videos are made again, by the run's recipe and seeds) and a CSV to fill in, which `--count FILE` counts.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...console import say
from ...data.prompts import read_prompts
from ...errors import UserError
from ...recipe import Recipe
from ...recipe.files import load_recipe
from ...running.folder import write_text
from ...running.pool import fetch_models, open_pool
from ..labels import Labels, read_labels
from ..oracle import judge_bytes
from ..study.by_eye import asked_for, count_readings, draw_failures, refuse_filled, write_readings
from ..study.errors import Miss, all_misses, count_errors, error_table
from ..study.measures import Arm
from ..study.prompts import WRITTEN, held_out
from ..study.report import REFINER
from ..study.rows import read_run
from ..study.scale import FULL
from ..study.settings import BEST

PAGE = 10
"""Failures on a page."""
_LABEL, _LINE = 560, 84
"""Width of a row's label in px, and the characters of a line of it."""
_LINES = 6
"""Lines of a label that a row has room for."""


def read_arm(run: Path, name: str) -> Arm:
    """An arm of an evaluation; in a study's folder `refiner` is the best setting's, all trainings together.

    Raises:
        UserError: If there is no such evaluation or arm.
    """
    recipe = kept_recipe(run)
    # The rows that ship with the study have no recipe.
    own = recipe.evaluation if recipe else None
    prompts = read_prompts(own.prompts, own.limit) if own else held_out(FULL.group, FULL.written)
    arms, _ = read_run(run, prompts)
    found = arms.get(name) or (arms.get(BEST) if name == REFINER else None)
    if found is None:
        raise UserError(
            f"`--arm` must be an arm of the evaluation in {run}. Got {name!r}; name one of {', '.join(arms)}."
        )
    return found


def kept_recipe(run: Path) -> Recipe | None:
    """The recipe of an evaluation; None where its folder has none."""
    kept = next((path for path in (run / "recipes/evaluate.yaml", run / "recipe.yaml") if path.is_file()), None)
    return load_recipe(kept) if kept else None


def by_wording(arm: Arm) -> dict[str, list[str]]:
    """Ids of the prompts of each group, and of all."""
    groups = {prompt: videos[0].group for prompt, videos in arm.videos.items()}
    names = [name for name in dict.fromkeys(groups.values()) if name]
    parts = {name: [prompt for prompt, group in groups.items() if group == name] for name in names}
    return {"all prompts": list(groups), **(parts if len(parts) > 1 else {})}


def page(arm: Arm, labels: Labels) -> str:
    """The error tables of an arm."""
    lines = [f"# Where the score of `{arm.name}` is lost\n"]
    for title, prompts in by_wording(arm).items():
        errors = count_errors(arm, prompts, labels)
        lines += [
            f"## {title.capitalize()}\n",
            f"{errors.videos} videos; mean score {1 - errors.lost:.4f}.\n",
            error_table(errors),
        ]
    return "\n".join(lines)


def make_again(run: Path, drawn: Sequence[Miss]) -> list[NDArray[np.uint8]]:
    """The videos of failures, made by the run's recipe from the same texts and seeds; rounding may differ with the batch.

    Args:
        run: The run folder.
        drawn: The failures.

    Raises:
        UserError: If the run has no recipe, or its video model is not usable.
    """
    recipe = kept_recipe(run)
    if recipe is None:
        raise UserError(
            f"A sheet needs the recipe of the evaluation. Got none in {run}; name the run folder of `evaluate`."
        )
    models = open_pool(recipe, ["video_model"])
    fetch_models(recipe, ["video_model"])
    models.place_on(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return models.video.generate([miss.video.text for miss in drawn], [int(miss.video.seed) for miss in drawn])


def _label(number: int, miss: Miss, again: float | None, labels: Labels) -> list[str]:
    video, value = miss.video, asked_for(miss, labels)
    title = f"{number}  {miss.cause}: {miss.attribute} {value}".strip()
    score = f"score {video.score:.2f}, of this video {'none' if again is None else format(again, '.2f')}; {video.group}"
    told = [f"asked: {video.prompt}", f"given: {video.text}", f"oracle: {video.critique}"]
    lines = [line for text in told for line in textwrap.wrap(text, _LINE)]
    return [title, score, *(lines if len(lines) < _LINES else [*lines[: _LINES - 2], lines[_LINES - 2] + " ..."])]


def draw_sheets(run: Path, out: Path, drawn: Sequence[Miss], labels: Labels) -> None:
    """Writes the CSV of the readings and its pages, `PAGE` failures on each."""
    from .pictures import Sheet
    from .video_model_card import SHOWN_FRAMES

    refuse_filled(out / "readings.csv")
    videos = make_again(run, drawn)
    again = [
        judge_bytes((m.video.prompt, v, labels.get(m.video.prompt)))[0] for m, v in zip(drawn, videos, strict=True)
    ]
    write_readings(out / "readings.csv", drawn, again, labels)
    shown = [number for number in SHOWN_FRAMES if number < len(videos[0])]
    for begin in range(0, len(drawn), PAGE):
        sheet = Sheet([f"frames {' '.join(map(str, shown))}"], _LABEL)
        for number in range(begin, min(begin + PAGE, len(drawn))):
            clip = (videos[number][shown] / 255).astype(np.float32)
            sheet.add(_label(number + 1, drawn[number], again[number], labels), [clip])
        sheet.save(out / f"failures-{begin // PAGE + 1}.png")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/lab"), help="run folder of an evaluation")
    parser.add_argument("--arm", default=REFINER)
    parser.add_argument("--labels", default=WRITTEN, help="CSV of what hand-written requests ask for")
    parser.add_argument("--sheet", type=int, nargs="?", const=50, default=0, help="draw so many failures (50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--out", type=Path, default=None, help="folder to write to; default: RUN/errors-ARM")
    parser.add_argument("--count", type=Path, default=None, help="count a CSV of readings that is filled in, and end")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and writes the tables.

    Args:
        arguments: Arguments without the program's name; None takes the process's.

    Returns:
        0 if all is done, 2 for bad input.
    """
    args = _arguments(arguments)
    try:
        if args.count:
            say(count_readings(args.count))
            return 0
        arm, labels = read_arm(args.run, args.arm), read_labels(args.labels)
        out = args.out or args.run / f"errors-{args.arm}"
        text = page(arm, labels)
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "errors.md", text)
        say(text)
        drawn = draw_failures(all_misses(arm, list(arm.videos), labels), args.sheet, args.seed) if args.sheet else []
        if drawn:
            draw_sheets(args.run, out, drawn, labels)
    except UserError as error:
        print(f"errors: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
