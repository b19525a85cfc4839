"""The manifest of known checkpoints and the folders they live in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..data.resources import find, find_shipped
from ..errors import UserError

MARKER = "checksums.json"
"""Written last into a fetched folder: sha256 of each of its files. A folder without it is not whole."""


@dataclass(frozen=True)
class Entry:
    """A checkpoint of `ckpt/manifest.yaml`.

    Attributes:
        name: Its key.
        kind: What it is, in words.
        licence: SPDX identifier, the licence's own name, or `unstated`.
        megabytes: Size on disk, of 10^6 bytes; 0 where it is not known.
        shipped: Folder that ships with the project, or empty.
        hub: `repo`, `revision` (`main` where none is pinned), `allow` (patterns of files), and where they apply `holds`
            (a file; the folder it lies in, wherever in the repository, is the checkpoint) and `gated` (whether its
            licence must be accepted on the hub first). None for what the hub does not have.
        index: `package`, `wheel`, `sha256` and `folder` or `gguf`, or None.
        assembled: `delta` (a folder that ships with the project) and `base` (a checkpoint of the manifest), from which the
            checkpoint is made once (`vision_language.assemble`), or None.
    """

    name: str
    kind: str
    licence: str
    megabytes: int
    shipped: str = ""
    hub: dict[str, Any] | None = None
    index: dict[str, Any] | None = None
    assembled: dict[str, str] | None = None

    def __post_init__(self) -> None:
        """Names the revision that the hub gives where none is pinned."""
        if self.hub is not None and not self.hub.get("revision"):
            object.__setattr__(self, "hub", {**self.hub, "revision": "main"})

    @property
    def cached(self) -> Path:
        """Its folder in the cache; what is assembled from another delta has another one."""
        if self.assembled is None:
            return cache_folder() / self.name
        delta = find_shipped(self.assembled["delta"])
        record = (delta / MARKER).read_bytes() if delta is not None else b""
        return cache_folder() / f"{self.name}-{hashlib.sha256(record).hexdigest()[:8]}"


@cache
def entries() -> dict[str, Entry]:
    """All known checkpoints by name; the project's own list, whatever lies in the working directory."""
    path = find_shipped("ckpt/manifest.yaml")
    if path is None:
        raise UserError("The checkpoint manifest is missing. Got no `ckpt/manifest.yaml`; reinstall rapo-lightning.")
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Entry(name, **fields) for name, fields in loaded.items()}


def cache_folder() -> Path:
    """Where fetched checkpoints are kept: `$RAPO_CACHE`, or `rapo-lightning` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rapo-lightning"
    return Path(os.environ.get("RAPO_CACHE", default)).expanduser()


def ready_folder(entry: Entry) -> Path | None:
    """The folder of a checkpoint that is present and whole, or None."""
    if entry.shipped:
        return find_shipped(entry.shipped)
    folder = entry.cached
    return folder if (folder / MARKER).is_file() else None


def checkpoints_of(names: Iterable[str]) -> list[Entry]:
    """The manifest's entries among `names`, each once, in order; folders and hub ids are left out."""
    return [entries()[name] for name in dict.fromkeys(names) if name in entries()]


def locate(checkpoint: str) -> str:
    """What to give to `from_pretrained`.

    Args:
        checkpoint: Name in the manifest, a folder, or a hub id `owner/name`.

    Raises:
        UserError: If it is none of these, or a known checkpoint that was not fetched.
    """
    if not checkpoint:
        raise UserError("A checkpoint must be named. Got an empty name; name a folder, a hub id or a known checkpoint.")
    if checkpoint in entries():
        folder = ready_folder(entries()[checkpoint])
        if folder is None:
            raise UserError(
                f"The checkpoint {checkpoint!r} is not here yet. Run `rapo-lightning ckpt fetch {checkpoint}`."
            )
        return str(folder)
    folder = find(checkpoint)
    if folder is not None:
        return str(folder)
    if checkpoint.count("/") == 1 and not checkpoint.startswith((".", "/", "~", "runs/", "ckpt/")):
        return checkpoint
    raise UserError(
        f"A checkpoint must be a folder, a hub id `owner/name` or one of {', '.join(entries())}. Got {checkpoint!r}, "
        "which is none of them."
    )
