from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT

LAB = "rapo_lightning.lab"
SCRIPTS = f"{LAB}.scripts"
# The command line may name the lab; recipes and tests do.
MAY_KNOW_THE_LAB = {"rapo_lightning/cli.py"}


def _imported(path: Path) -> Iterator[str]:
    """Full names of all that a module imports, wherever in it the import stands."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_imports_are_seen_in_all_their_forms(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "a/b/c.py"
    path.parent.mkdir(parents=True)
    path.write_text("import x.y\nfrom . import d\nfrom .e import f\ndef g():\n    from ..h import i\n")
    assert list(_imported(path)) == ["x.y", "a.b.d", "a.b.e.f", "a.h.i"]


@pytest.mark.parametrize("path", sorted((ROOT / "rapo_lightning/lab").glob("*.py")), ids=lambda path: path.stem)
def test_the_world_does_not_know_its_scripts(path: Path) -> None:
    assert [name for name in _imported(path) if _within(name, SCRIPTS)] == []


def test_no_other_room_imports_the_lab() -> None:
    found = {}
    for package in ("rapo_lightning", "datamodules", "relation_graph"):
        for path in (ROOT / package).rglob("*.py"):
            place = path.relative_to(ROOT).as_posix()
            if not place.startswith("rapo_lightning/lab/") and place not in MAY_KNOW_THE_LAB:
                found[place] = [name for name in _imported(path) if _within(name, LAB)]
    assert len(found) > 20
    assert {place: names for place, names in found.items() if names} == {}
