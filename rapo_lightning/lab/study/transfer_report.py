"""From the evaluations on two video models to a page: each model's own refiner against the other's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...data.prompts import read_prompts
from ...errors import UserError
from ...running.folder import write_text
from ..labels import read_labels
from . import prompts as files
from .plots import bars
from .report import times_table
from .rows import read_run
from .tables import Measured, differences, scores, table
from .transfer import MODELS, OTHER_STYLE, Model, Transfer, other

_NAMES = {"first": "lab-wan, captions", "second": "the second model, tags"}


def measure(transfer: Transfer, model: Model) -> Measured:
    """Reads the evaluation on a model.

    Raises:
        UserError: If it has not been made.
    """
    folder = transfer.run_folder(model)
    prompts = read_prompts(str(transfer.prompt_file("heldout", model)))
    arms, costs = read_run(folder, prompts)
    ids, groups = [prompt.id for prompt in prompts], [prompt.group for prompt in prompts]
    return Measured(arms, ids, groups, read_labels(files.WRITTEN), costs)


def write_report(transfer: Transfer) -> Path:
    """Writes `transfer.md`, `transfer.json` and the plots.

    Returns:
        The page.

    Raises:
        UserError: If an evaluation is missing, or a refiner that both sides need.
    """
    scale, found = transfer.scale, dict[str, Any]()
    pages = [
        "# Another video model\n\n"
        f"At most {scale.group} held-out prompts of each group and {scale.written} hand-written ones, {scale.training_seeds} trainings "
        f"of each refiner, {scale.video_seeds} videos of each prompt and arm. A prompt's score is the mean over its trainings and videos; "
        "intervals are 95 % bootstrap intervals over prompts, and differences are paired by prompt. `other-style` is the reference in "
        "the other model's style.\n"
    ]
    for model in MODELS:
        measured = measure(transfer, model)
        found[model] = measured.summary(list(measured.arms), "")
        pages += _page(transfer, model, measured, found[model])
    pages.append(times_table(transfer.folder))
    write_text(transfer.folder / "transfer.json", json.dumps(found, indent=2) + "\n")
    write_text(transfer.folder / "transfer.md", "\n".join(pages))
    return transfer.folder / "transfer.md"


def _page(transfer: Transfer, model: Model, measured: Measured, summary: Mapping[str, Any]) -> Iterator[str]:
    blocks: dict[str, Mapping[str, Any]] = {"all prompts": summary, **summary.get("groups", {})}
    blocks = {name: block for name, block in blocks.items() if block["arms"]}
    pairs = [(f"{model}-{targets}", f"{other(model)}-{targets}") for targets in transfer.targets]
    both = [pair for pair in pairs if set(pair) <= set(measured.arms)]
    if not both:
        raise UserError(
            f"The page needs refiners of both models. Got {', '.join(measured.arms)} on the {model}; look why trainings were left out."
        )
    yield f"## On {_NAMES[model]}\n"
    yield "### Its own refiner against the other's\n"
    styles = [("reference", OTHER_STYLE)]
    yield differences(blocks, [*both, *styles])
    for name, block in blocks.items():
        yield f"### {name.capitalize()}\n"
        yield scores(block, [])
    rows = [
        [name, ", ".join(f"{mean:.3f}" for mean in measured.arms[name].by_training())] for pair in both for name in pair
    ]
    yield "### By training\n"
    yield table(["refiner", "scores"], rows)
    bars(blocks, transfer.folder / f"transfer-{model}.png")
    yield f"![Scores](transfer-{model}.png)\n"
