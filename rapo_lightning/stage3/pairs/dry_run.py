"""What `finetune --dry_run true` says of the pairs, without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...recipe.components import Component
from .by_text import share_right
from .filter import Candidate, Reader
from .funnel import Step
from .views import FEATURES, PairViews

_EXAMPLES = 3
_WIDEST = 300
"""Characters of a text that are shown."""


def dry_run_text(views: PairViews, reader: Reader | None, named: Component) -> str:
    """The funnel as a table, the sizes of the views, how right the targets are where something reads them, and examples.

    Args:
        views: The pairs.
        reader: What reads texts, or None.
        named: What the recipe calls it.
    """
    funnel = views.funnel
    counted = "rounds" if funnel.recipe_hashes else "pairs"
    header = ("left after", counted, "prompts", *(["all right"] if reader else []))
    steps = [(step.name, len(step.kept), step.prompts, *_right(step, reader)) for step in funnel.steps]
    lines = [str(funnel), "", *("".join(f"{cell!s:>12}" for cell in row) for row in (header, *steps)), ""]
    for name in FEATURES:
        view = views.view(name)
        told = f"{len(view['train'])} for training, {len(view['validation'])} for validation"
        good = sum(sum(split["label"]) for split in view.values()) if name == "unpaired" else 0
        lines.append(f"{name}: {told}{f', {good} of them good' if name == 'unpaired' else ''}")
    if reader is not None:
        lines += ["", _accuracy(funnel.kept, reader, named)]
    return "\n".join([*lines, "", *_examples(funnel.kept)])


def _right(step: Step, reader: Reader | None) -> list[str]:
    if reader is None:
        return []
    shares = [share_right(reader, candidate) for candidate in step.kept]
    return [f"{sum(share == 1 for share in shares) / len(shares):.3f}" if shares else ""]


def _accuracy(kept: Sequence[Candidate], reader: Reader, named: Component) -> str:
    right = [value for candidate in kept for value in reader.right(candidate.request, candidate.text).values()]
    whole = sum(share_right(reader, candidate) == 1 for candidate in kept)
    share = f", {sum(right) / len(right):.3f} of what is named" if right else ""
    return (
        f"targets that name all that their request names, by {named.get('class_path')}: {whole} of {len(kept)}{share}"
    )


def _examples(kept: Sequence[Candidate]) -> list[str]:
    places = sorted({round(part * (len(kept) - 1) / (_EXAMPLES - 1)) for part in range(_EXAMPLES)})
    lines = []
    for candidate in (kept[place] for place in places):
        gap = "no gap known" if math.isnan(candidate.gap) else f"{candidate.gap:+.3f}"
        lines += [f"  {candidate.request[:_WIDEST]}", f"  -> {candidate.text[:_WIDEST]} ({gap})", ""]
    return lines[:-1]
