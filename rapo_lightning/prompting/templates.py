"""The instruction texts of the stages, `stage<n>/templates/*.txt`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def template(stage: str, name: str) -> str:
    """Text of `<stage>/templates/<name>.txt`."""
    path = files("rapo_lightning") / stage / "templates" / f"{name}.txt"
    return path.read_text(encoding="utf-8").rstrip("\n")


@cache
def table(stage: str, name: str) -> tuple[tuple[str, ...], ...]:
    """Rows of `<stage>/templates/<name>.txt`, cells divided by ` | `."""
    return tuple(tuple(line.split(" | ")) for line in template(stage, name).splitlines())
