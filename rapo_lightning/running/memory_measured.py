"""What phases needed beside weights when a recipe was run on this machine's card, remembered for its next plan."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import torch

from ..checkpoints import cache_folder
from ..errors import RunError
from ..models.phases import PhaseMeter, observed_by
from ..recipe import Recipe
from ..recipe.identity import digest, named
from .folder import write_text


def _file() -> Path:
    return cache_folder() / "memory.json"


def _key(recipe: Recipe) -> str:
    """What decides the memory of the phases: the card, the models with their sizes and batches, the policy."""
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    models = [named(model) for model in (recipe.video_model, recipe.vision_language_model, recipe.language_model)]
    return digest([card, models, recipe.residency, asdict(recipe.stage2.sampling), recipe.stage2.candidates])


def measured_bytes(recipe: Recipe) -> dict[str, int]:
    """Bytes by phase that a run of this recipe needed beside what was on the device before; empty if there was none.

    Args:
        recipe: The recipe.
    """
    return {str(phase): int(value) for phase, value in _known().get(_key(recipe), {}).items()}


def _known() -> dict[str, dict[str, int]]:
    """What is remembered; nothing where the file is not there or damaged, since it is a note for the next plan."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, dict)} if isinstance(found, dict) else {}


@contextmanager
def remembered(recipe: Recipe) -> Iterator[None]:
    """To be put around a run: what its phases need is remembered, the most of all runs. Does nothing without a GPU.

    Args:
        recipe: The recipe.
    """
    if not torch.cuda.is_available():
        yield
        return
    meter = PhaseMeter()
    try:
        with observed_by(meter):
            yield
    finally:
        _remember(recipe, dict(meter.beside))


def _remember(recipe: Recipe, beside: dict[str, int]) -> None:
    known, key = _known(), _key(recipe)
    before = known.get(key, {})
    known[key] = {phase: max(value, before.get(phase, 0)) for phase, value in {**before, **beside}.items()}
    # A run does not fail for want of it.
    with suppress(RunError):
        write_text(_file(), json.dumps(known))
