"""Keeps keys and passwords out of recipes: a recipe is saved beside every run, shown, and shared."""

from __future__ import annotations

import re
from typing import Any

from ..errors import UserError

_NAMES = re.compile(
    r"(.*_)?(api_?key|secret|secret_?key|pass(word|wd|phrase)|authorization|(access|auth|api|bearer|hf|refresh)_?token)",
    re.IGNORECASE,
)
"""Fields whose value is a secret."""
_KEYS = re.compile(r"\b(sk-[\w-]{16,}|hf_[A-Za-z0-9]{20,})")
"""How the keys of common services begin."""
_CREDENTIALS = re.compile(r"https?://[^/\s@]+@")


def refuse_secrets(value: Any, place: str = "") -> None:
    """Looks through nested settings of a recipe.

    Args:
        value: The settings.
        place: Where they stand in the recipe.

    Raises:
        UserError: If a field is named like a secret and set, or a text looks like a key or a URL with a password; the value is
            not repeated.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            where = f"{place}.{name}" if place else str(name)
            if _NAMES.fullmatch(str(name).replace("-", "_")) and isinstance(item, str) and item:
                raise UserError(
                    f"A recipe must hold no key or password, since it is saved with every run. Got one in `{where}`; put it "
                    "into an environment variable and take the field out."
                )
            refuse_secrets(item, where)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            refuse_secrets(item, f"{place}[{index}]")
    elif isinstance(value, str) and (_KEYS.search(value) or _CREDENTIALS.search(value)):
        raise UserError(
            "A recipe must hold no key, and no URL with a user or password in it, since it is saved with every run. Got one in "
            f"`{place}`; put it into an environment variable and take it out."
        )
