"""The rooms of the package: imports point down, functions are short, the top level is small (docs/architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.helpers import ROOT

FLOORS = [
    {"console", "errors"},
    {"data"},
    {"prompting", "checkpoints"},
    {"recipe", "models"},
    {"running", "verifiers"},
    {"datamodules"},
    {"stage1", "stage2", "stage3"},
    {"evaluation", "report", "collection"},
    {"cycles"},
    {"commands", "lab"},
    {"cli"},
    {"__main__", "__init__"},
]
"""From the ground up; rooms of one floor may not import each other."""
SOURCES = [path for room in ("rapo_lightning", "datamodules") for path in sorted((ROOT / room).rglob("*.py"))]


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return "datamodules" if parts[0] == "datamodules" else Path(parts[1]).stem


def imported(path: Path) -> set[str]:
    """Rooms that a file imports, late imports included."""
    package = list(path.relative_to(ROOT).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        target = [*base, *(node.module or "").split(".")] if node.module else base
        if target[:1] == ["datamodules"]:
            found.add("datamodules")
        elif target[:1] == ["rapo_lightning"]:
            names = target[1:2] or [alias.name for alias in node.names]
            found |= {
                name for name in names if (ROOT / "rapo_lightning" / name).is_dir() or name in ("errors", "console")
            }
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    floors = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    room = room_of(path)
    for other in imported(path) - {room}:
        assert floors[other] < floors[room], f"{room} imports {other}"


def test_the_top_level_is_small() -> None:
    assert len(list((ROOT / "rapo_lightning").glob("*.py"))) <= 8


def test_functions_are_short() -> None:
    lengths = sorted(
        node.end_lineno - node.lineno + 1  # type: ignore[operator]
        for path in [*SOURCES, *sorted((ROOT / "relation_graph").glob("*.py"))]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    median, ninetieth = lengths[len(lengths) // 2], lengths[len(lengths) * 9 // 10]
    assert (median <= 10, ninetieth <= 30, lengths[-1] <= 60) == (True, True, True)
