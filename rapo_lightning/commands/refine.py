"""`refine`: the trained refiner on one prompt or on a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..console import say
from ..data.resources import find_shipped
from ..errors import UserError
from ..recipe import Recipe

_BATCH = 32
_SHIPPED = {("lab", "lab/video_model"): "ckpt/lab/refiner"}
"""Refiners that come with the project, by the recipe's name and its video model."""


def refiner_folder(recipe: Recipe, out: str) -> Path:
    """Folder of a run's refiner; the shipped lab recipe may take the shipped one, and says so.

    Args:
        recipe: The recipe.
        out: The run's folder as the user named it, empty if not; a folder that is named must have a refiner of its own.

    Raises:
        UserError: If there is none.
    """
    from ..running.folder import run_folder

    own = run_folder(recipe, out) / "refiner"
    if own.is_dir():
        return own
    checkpoint = str(recipe.video_model.get("init_args", {}).get("checkpoint", ""))
    shipped = _SHIPPED.get((recipe.name, checkpoint), "")
    found = find_shipped(shipped) if shipped and not out else None
    if found is None:
        raise UserError(
            f"The run needs a refiner. Got {own.parent}, which has no folder `refiner`; run `finetune` with the same recipe "
            "and `--out` first, or name the run's folder with `--out`."
        )
    say(f"{own.parent} has no refiner of its own: the shipped {shipped} is used.", error=True)
    return found


def _open_log(path: Path, identity: str) -> Any:
    """The CSV to write or to continue.

    Raises:
        UserError: If it holds answers of another refiner.
    """
    from ..data.csv_log import CsvLog

    log = CsvLog(path, ["prompt", "refined", "refiner"])
    others = {row[2] for row in log.rows()} - {identity}
    if others:
        raise UserError(
            f"{path} is to be continued and holds answers of another refiner. Got {', '.join(sorted(others))} where this one "
            f"is {identity}; choose another `--output` or delete the file."
        )
    return log


def refine(recipe: Recipe, prompt: str = "", /, *, out: str = "", input: str = "", output: str = "") -> None:
    """Let the trained refiner rewrite one prompt or a file.

    Prints the refined prompt, or writes a CSV `prompt, refined, refiner` for a file. A half-written CSV of the same
    refiner is continued.

    Args:
        recipe: The recipe.
        prompt: The prompt to refine.
        out: Run folder; default: runs/<recipe name>.
        input: File of prompts to refine.
        output: CSV to write; default: <input>.refined.csv in the working directory.

    Raises:
        UserError: If neither or both are given, there is no refiner, or the CSV is another refiner's.
    """
    from tqdm import tqdm

    from ..data.prompts import read_prompts
    from ..models import ModelPool
    from ..running.pool import fetch_models, open_refiner

    if bool(prompt) == bool(input):
        raise UserError(f"`refine` takes one prompt or `--input FILE`. Got {prompt!r} and {input!r}.")
    prompts = read_prompts(input, field="--input") if input else []
    refiner = open_refiner(refiner_folder(recipe, out), recipe, ModelPool(), alone=True)
    if prompt:
        fetch_models(recipe, ("language_model",))
        print(refiner(prompt))
        return
    log = _open_log(Path(output or Path(input).with_suffix(".refined.csv").name), refiner.identity())
    fetch_models(recipe, ("language_model",))
    done = {row[0] for row in log.rows()}
    left = [item.text for item in prompts if item.text not in done]
    for begin in tqdm(range(0, len(left), _BATCH), desc="refine", unit="batch", delay=5):
        texts = left[begin : begin + _BATCH]
        log.append([(text, refined, refiner.identity()) for text, refined in zip(texts, refiner(texts), strict=True)])
    print(f"{len(prompts)} prompts in {log.path}")
