"""`refine`: the trained refiner on one prompt or on a file."""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm

from ..data.csv_log import CsvLog
from ..data.prompts import read_prompts
from ..data.resources import find
from ..errors import UserError
from ..recipe import Recipe
from ..stage3.refiner import Refiner
from .common import default_device, fetch_models

_BATCH = 32


def open_refiner(recipe: Recipe, folder: Path, batch_size: int = 16) -> Refiner:
    """A run's refiner; if the run has none, the one that ships for the recipe's video model.

    Raises:
        UserError: If there is neither, or it belongs to another base model.
    """
    base = str(recipe.language_model.get("init_args", {}).get("checkpoint", ""))
    own = folder / "refiner"
    shipped = (
        Path("ckpt") / str(recipe.video_model.get("init_args", {}).get("checkpoint", "")).split("/")[0] / "refiner"
    )
    if own.is_dir() or find(shipped) is None:
        return Refiner.from_pretrained(own, base, batch_size)
    print(f"{folder} has no refiner of its own: the shipped {shipped} is used.", file=sys.stderr)
    return Refiner.from_pretrained(shipped, base, batch_size)


def _load(recipe: Recipe, refiner: Refiner) -> None:
    fetch_models(recipe, ("language_model",))
    refiner.model.to(default_device())


def refine(recipe: Recipe, out: str, prompt: str, source: str, target: str) -> None:
    """Prints the refined prompt, or writes a CSV `prompt, refined` for a file; a half-written CSV is continued."""
    if bool(prompt) == bool(source):
        raise UserError(f"`refine` takes one prompt or `--input FILE`. Got {prompt!r} and {source!r}.")
    prompts = read_prompts(source, field="--input") if source else []
    refiner = open_refiner(recipe, Path(out) if out else Path("runs") / recipe.name)
    if prompt:
        _load(recipe, refiner)
        print(refiner(prompt))
        return
    log = CsvLog(Path(target or Path(source).with_suffix(".refined.csv").name), ["prompt", "refined"])
    _load(recipe, refiner)
    done = {row[0] for row in log.rows()}
    left = [item.text for item in prompts if item.text not in done]
    for begin in tqdm(range(0, len(left), _BATCH), desc="refine", unit="batch"):
        texts = left[begin : begin + _BATCH]
        log.append(list(zip(texts, refiner(texts), strict=True)))
    print(f"{len(prompts)} prompts in {log.path}")
