"""Turns a recipe's `class_path` and `init_args` into objects, from allowed packages only, checked by signature."""

from __future__ import annotations

import importlib
from typing import Any

from jsonargparse import ArgumentParser

from ..errors import UserError
from . import Component

ALLOWED_PACKAGES = ["rapo_lightning", "diffusers", "transformers", "sentence_transformers", "torchmetrics"]
"""Top-level packages a recipe may name; `--allow_package NAME` adds one for a run. A recipe imports code."""


def load_class(component: Component, field: str) -> type:
    """Imports the class a component names.

    Args:
        component: The component.
        field: Its place in the recipe, for messages.

    Raises:
        UserError: If no class is named, the package is not allowed, or there is no such class.
    """
    path = component.get("class_path", "")
    if "." not in path:
        raise UserError(f"`{field}.class_path` must be an import path of a class. Got {path!r}.")
    package = path.split(".")[0]
    if package not in ALLOWED_PACKAGES:
        raise UserError(
            f"`{field}.class_path` is outside the allowed packages {', '.join(ALLOWED_PACKAGES)}. Got {path!r}; "
            f"add `--allow_package {package}` if you trust it."
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"`{field}.class_path` cannot be imported. Got {path!r}: {error}.") from error
    if not isinstance(found, type):
        raise UserError(f"`{field}.class_path` must name a class. Got {path!r}, a {type(found).__name__}.")
    return found


def check(component: Component, field: str) -> tuple[type, dict[str, Any]]:
    """Checks a component's arguments against its constructor without calling it.

    Returns:
        The class and its arguments with defaults filled in.

    Raises:
        UserError: If an argument is unknown, missing or of another type.
    """
    found = load_class(component, field)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(found)
    try:
        parsed = parser.parse_object(component.get("init_args", {}))
    except Exception as error:  # jsonargparse raises its own and argparse's error types
        message = " ".join(str(error).split())
        raise UserError(f"`{field}.init_args` do not fit {component['class_path']}: {message}") from error
    return found, parsed.as_dict()


def build(component: Component, field: str) -> Any:
    """Builds the object a component names; arguments as in `check`."""
    found, arguments = check(component, field)
    return found(**arguments)
