"""Refuses, before anything is loaded, models that the device cannot hold or compute with."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..console import say
from ..errors import UserError
from ..recipe import Recipe
from .memory_plan import POLICIES, USABLE, fitting, plan, total
from .pool import ROLES, Role

_FIRST_WITH_BF16 = 8
"""Major number of the first CUDA cards that compute in bfloat16 (Ampere)."""


def cards(recipe: Recipe) -> list[tuple[str, int, int]]:
    """Name, bytes and major number of the cards that a recipe's trainer can use; none where it is told to take the CPU."""
    if recipe.trainer.get("accelerator", "auto") not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return []
    there, chosen = range(torch.cuda.device_count()), recipe.trainer.get("devices", "auto")
    # A small card that drives a screen is no reason to refuse a recipe that leaves it alone.
    if isinstance(chosen, list):
        used = [number for number in there if number in chosen]
    else:
        used = list(there[:chosen] if isinstance(chosen, int) and chosen > 0 else there)
    found = [torch.cuda.get_device_properties(number) for number in used]
    return [(str(item.name), int(item.total_memory), int(item.major)) for item in found]


def check_device(recipe: Recipe, roles: Sequence[Role] = ROLES) -> None:
    """Checks the plan of these models against the smallest card; a plan that is near to it is said.

    Args:
        recipe: The recipe.
        roles: The fields whose models are used.

    Raises:
        UserError: If their weights do not fit, or a card cannot compute in their type.
    """
    there = cards(recipe)
    if not there:
        return
    _check_types(recipe, roles, there)
    name, size, _ = min(there, key=lambda card: card[1])
    needs = plan(recipe, roles)
    bare = [item for item in needs if item.parts]
    for item in bare:
        item.phases = {}
    if total(bare, recipe.residency) > size:
        raise UserError(
            f"The weights must fit into the device's memory. Got {total(bare, recipe.residency) / 1e9:.1f} GB of them under "
            f"`residency: {recipe.residency}` for {name} with {size / 1e9:.1f} GB; {_what_would_fit(recipe, roles, size)}."
        )
    needed = total(plan(recipe, roles), recipe.residency)
    if needed > size * USABLE:
        say(f"memory may run out: about {needed / 1e9:.1f} GB are needed, {name} has {size / 1e9:.1f} GB", error=True)


def _what_would_fit(recipe: Recipe, roles: Sequence[Role], size: int) -> str:
    needs = plan(recipe, roles)
    policy = fitting(needs, size)
    if policy is not None:
        return f"`residency: {policy}` would fit"
    allowed = POLICIES[:1] if any(item.stays for item in needs) else POLICIES
    least = min(total(needs, found) for found in allowed) / USABLE / 1e9
    return f"no policy would fit: take a card of {least:.0f} GB, a server for one of the models, or smaller models"


def _check_types(recipe: Recipe, roles: Sequence[Role], there: list[tuple[str, int, int]]) -> None:
    old = next((name for name, _, major in there if major < _FIRST_WITH_BF16), None)
    if old is None:
        return
    for role in roles:
        model = getattr(recipe, role)
        wanted = model.get("init_args", {}).get("dtype", "bfloat16" if role == "video_model" else "auto")
        if model.get("class_path", "").startswith("rapo_lightning.models.") and wanted == "bfloat16":
            other = "float16` or `float32" if role == "video_model" else "float32"
            raise UserError(
                f"`{role}.init_args.dtype` must be one that the device computes in. Got bfloat16 for {old}, which has none; "
                f"set it to `{other}`."
            )
