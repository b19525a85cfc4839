"""The instruction texts of the stages and the verifiers, `<room>/templates/*.txt`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def template(room: str, name: str) -> str:
    """Text of `<room>/templates/<name>.txt`."""
    path = files("rapo_lightning") / room / "templates" / f"{name}.txt"
    return path.read_text(encoding="utf-8").rstrip("\n")


@cache
def table(room: str, name: str) -> tuple[tuple[str, ...], ...]:
    """Rows of `<room>/templates/<name>.txt`, cells divided by ` | `."""
    return tuple(tuple(line.split(" | ")) for line in template(room, name).splitlines())
