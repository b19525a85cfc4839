"""Finds files that ship with the project, in a checkout as in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_ROOTS = (_PACKAGE.parent, _PACKAGE / "shipped")
"""The checkout's root, then the folder into which the wheel puts `recipes/`, `ckpt/` and the graph data."""


def find(relative: str | Path) -> Path | None:
    """The file or folder of that relative path, or None.

    Args:
        relative: A path; looked up from the working directory first, then in the checkout or the wheel.
    """
    path = Path(relative).expanduser()
    if path.exists():
        return path
    if path.is_absolute():
        return None
    return next((root / path for root in _ROOTS if (root / path).exists()), None)


def shipped_recipes() -> dict[str, Path]:
    """Name and path of each recipe that ships."""
    folder = next((root / "recipes" for root in _ROOTS if (root / "recipes").is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}
