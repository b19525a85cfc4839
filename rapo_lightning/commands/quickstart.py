"""`quickstart`: collect, finetune, evaluate and report on the lab, from nothing, on two CPU cores."""

from __future__ import annotations

import time
from pathlib import Path

from ..console import say
from ..recipe import Recipe
from .collect import collect
from .evaluate import evaluate
from .finetune import finetune
from .report import report


def quickstart(recipe: Recipe, *, out: str = "") -> Path:
    """Collect, finetune, evaluate and report on the lab, from nothing, on a laptop.

    Args:
        recipe: The recipe.
        out: Run folder; default: runs/<recipe name>.

    Returns:
        The gallery's page.
    """
    from ..running.folder import run_folder

    begin = time.monotonic()
    steps = (
        ("1/4 collect: generate, look, rewrite", lambda: collect(recipe, out=out)),
        ("2/4 finetune: a LoRA refiner from the best rounds", lambda: finetune(recipe, out=out)),
        ("3/4 evaluate: prompts that nothing was trained on", lambda: evaluate(recipe, out=out)),
    )
    for title, step in steps:
        say(f"\n== {title} ({time.monotonic() - begin:.0f} s)")
        step()
    say("\n== 4/4 report: open it in a browser")
    page = report(str(run_folder(recipe, out)))
    say(f"{time.monotonic() - begin:.0f} s in all")
    return page
