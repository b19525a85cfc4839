"""Finds files that ship with the project, in a checkout as in an installed wheel."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent
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
    return None if path.is_absolute() else find_shipped(path)


def find_shipped(relative: str | Path) -> Path | None:
    """The file or folder of that relative path that ships with the project, or None.

    The working directory is not looked at: whatever lies there under such a name is not the project's.

    Args:
        relative: Path from the checkout's root, such as `ckpt/manifest.yaml`.
    """
    return next((root / relative for root in _ROOTS if (root / relative).exists()), None)


def fingerprint(folder: str) -> str:
    """Identity of the contents of a file or folder; of a graph, of its `graph.json`, which holds its files' hashes.

    Args:
        folder: Relative or absolute path; the empty path has the empty identity, a missing one its name.
    """
    path = find(folder) if folder else None
    if path is None:
        return folder
    if path.is_file():
        files = [path]
    else:
        files = [path / "graph.json"] if (path / "graph.json").is_file() else sorted(path.glob("*"))
    digest = hashlib.sha256()
    for file in files:
        # Cards and markers say nothing of what is computed.
        if file.is_file() and file.suffix != ".md" and file.name != "checksums.json":
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def shipped_recipes() -> dict[str, Path]:
    """Name and path of each recipe that ships."""
    folder = next((root / "recipes" for root in _ROOTS if (root / "recipes").is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}
