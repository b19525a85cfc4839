"""`quickstart`: collect, finetune, evaluate and report on the lab, from nothing, on two CPU cores."""

from __future__ import annotations

import time
from pathlib import Path

from ..console import say
from ..recipe import Recipe
from ..report import write_report
from .collect import collect
from .evaluate import evaluate
from .finetune import finetune


def quickstart(recipe: Recipe, recipe_yaml: str, out: str) -> Path:
    """Runs all stages of a small recipe.

    Returns:
        The gallery's page.
    """
    begin = time.monotonic()
    steps = (
        ("1/4 collect: generate, look, rewrite", lambda: collect(recipe, recipe_yaml, out)),
        ("2/4 finetune: a LoRA refiner from the best rounds", lambda: finetune(recipe, recipe_yaml, out)),
        ("3/4 evaluate: prompts that nothing was trained on", lambda: evaluate(recipe, recipe_yaml, out)),
    )
    for title, step in steps:
        say(f"\n== {title} ({time.monotonic() - begin:.0f} s)")
        step()
    page = write_report(Path(out) if out else Path("runs") / recipe.name)
    say(f"\n== 4/4 report: open {page} in a browser ({time.monotonic() - begin:.0f} s in all)")
    return page
