"""The verifiers of a recipe, with what decides their scores."""

from __future__ import annotations

from ..errors import UserError
from ..recipe import Component, Recipe
from ..recipe.components import build
from ..recipe.identity import component_identity, digest
from .screening import FLOW, Judge


def build_judge(component: Component, field: str) -> Judge:
    """Builds one verifier.

    Raises:
        UserError: If it is unknown or takes other arguments, or its name is taken.
    """
    verifier = build(component, field)
    if verifier.name == FLOW:
        raise UserError(f"`{field}` must have another name than {FLOW!r}, the optical flow's own. Got it; rename it.")
    return Judge(verifier, digest(component_identity(component)))


def build_judges(recipe: Recipe) -> list[Judge]:
    """Builds the verifiers of the loop.

    Raises:
        UserError: If there is none, two have one name, or one is not usable.
    """
    judges = [build_judge(item, f"stage2.verifiers[{i}]") for i, item in enumerate(recipe.stage2.verifiers)]
    if not judges:
        raise UserError("`stage2.verifiers` must name at least one verifier. Got none; without scores no round wins.")
    names = [judge.verifier.name for judge in judges]
    if len(set(names)) < len(names):
        raise UserError(f"`stage2.verifiers` must have names of their own. Got {', '.join(names)}; leave one out.")
    return judges
