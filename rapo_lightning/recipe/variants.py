"""Variants of stage 1: the recipe with some of its fields set otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentError

from ..errors import UserError
from .files import place, recipe_parser
from .schema import Recipe


def variant(recipe: Recipe, name: str) -> Recipe:
    """The recipe of one of `evaluation.variants`.

    Args:
        recipe: The recipe.
        name: The variant's name.

    Raises:
        UserError: If it sets a field that is none of stage 1's, or to a value of another type.
    """
    field, given = f"evaluation.variants.{name}", recipe.evaluation.variants[name]
    wrong = [key for key in given if key != "graph" and not key.startswith("stage1.")]
    if wrong:
        # The models are shared by all arms, and what else is in a recipe does not change stage 1.
        raise UserError(f"`{field}` can set `graph` and the fields of `stage1`. Got {wrong[0]!r}; leave it out.")
    changed = _parsed(_placed(recipe, given, field), field)
    return dataclasses.replace(recipe, graph=changed.graph, stage1=changed.stage1)


def _placed(recipe: Recipe, given: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Stage 1's fields with those of the variant."""
    fields: dict[str, Any] = {"graph": recipe.graph, "stage1": dataclasses.asdict(recipe.stage1)}
    for key, value in given.items():
        place(fields, key, value, f"{field}: {key}")
    return fields


def _parsed(fields: dict[str, Any], field: str) -> Recipe:
    parser = recipe_parser()
    try:
        return Recipe(**dict(parser.instantiate(parser.parse_object(fields)).items()))
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        raise UserError(f"`{field}` does not fit the recipe: {' '.join(str(error).split())}") from error
