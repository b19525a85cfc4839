"""What phases needed beside weights when a recipe was run on this machine's card, remembered for its next plan."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from ..checkpoints import cache_folder
from ..models.phases import PhaseMeter, observed_by
from ..recipe import Recipe
from ..recipe.identity import digest, named


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
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))[_key(recipe)]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {str(phase): int(value) for phase, value in found.items()}


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
    path, key = _file(), _key(recipe)
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    before = known.get(key, {})
    known[key] = {phase: max(value, before.get(phase, 0)) for phase, value in {**before, **beside}.items()}
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known), encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        # It is a note for the next plan: a run does not fail for want of it.
        temporary.unlink(missing_ok=True)
