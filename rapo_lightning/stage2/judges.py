"""The verifiers of a recipe, with what decides their scores."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UserError
from ..models import ModelPool
from ..recipe import Component, Recipe
from ..recipe.components import build
from ..recipe.identity import named
from ..running.pool import Role, fetch_models, open_pool
from .judgements import FLOW, Judge

_ROLES: tuple[Role, ...] = ("language_model", "vision_language_model", "embedder")
"""Models that verifiers may use."""


def build_judge(recipe: Recipe, component: Component, field: str) -> Judge:
    """Builds one verifier.

    Args:
        recipe: The recipe, whose models it may use.
        component: The verifier's class and arguments.
        field: Its place in the recipe.

    Raises:
        UserError: If it is unknown or takes other arguments, its name is taken, or the recipe lacks a model that it uses.
    """
    verifier = build(component, field)
    if verifier.name == FLOW:
        raise UserError(f"`{field}` must have another name than {FLOW!r}, the optical flow's own. Got it; rename it.")
    return Judge(verifier, (named(component), *models_used(recipe, verifier, field)))


def models_used(recipe: Recipe, user: object, field: str) -> list[Component]:
    """The models that a verifier or a baseline says it uses, in `uses`.

    Args:
        recipe: The recipe.
        user: The verifier or baseline.
        field: Its place in the recipe.

    Raises:
        UserError: If it names another role, or the recipe lacks one.
    """
    found = []
    uses: Sequence[str] = getattr(user, "uses", ())
    for role in uses:
        if role not in _ROLES:
            raise UserError(f"`uses` of `{field}` must name models of {', '.join(_ROLES)}. Got {role!r}; correct it.")
        if not getattr(recipe, role).get("class_path"):
            raise UserError(f"`{field}` needs a `{role}`. Got a recipe without one; name one or leave it out.")
        found.append(named(getattr(recipe, role)))
    return found


def build_judges(recipe: Recipe) -> list[Judge]:
    """Builds the verifiers of the loop.

    Raises:
        UserError: If there is none, two have one name, or one is not usable.
    """
    judges = [build_judge(recipe, item, f"stage2.verifiers[{i}]") for i, item in enumerate(recipe.stage2.verifiers)]
    if not judges:
        raise UserError("`stage2.verifiers` must name at least one verifier. Got none; without scores no round wins.")
    names = [judge.verifier.name for judge in judges]
    if len(set(names)) < len(names):
        raise UserError(f"`stage2.verifiers` must have names of their own. Got {', '.join(names)}; leave one out.")
    return judges


def open_judges(recipe: Recipe) -> tuple[list[Judge], ModelPool]:
    """The verifiers of the loop with the models that they may use, fetched, for videos that are there already.

    Raises:
        UserError: As `build_judges`, or if a model is not usable.
    """
    judges = build_judges(recipe)
    roles = [role for role in _ROLES if getattr(recipe, role).get("class_path")]
    models = open_pool(recipe, roles)
    fetch_models(recipe, roles)
    return judges, models
