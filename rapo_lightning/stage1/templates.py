"""The instruction texts of stage 1."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def template(name: str) -> str:
    """Text of `templates/<name>.txt`."""
    return (files(__package__) / "templates" / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


@cache
def table(name: str) -> tuple[tuple[str, ...], ...]:
    """Rows of `templates/<name>.txt`, cells divided by ` | `."""
    return tuple(tuple(line.split(" | ")) for line in template(name).splitlines())
