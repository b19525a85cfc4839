"""What a checkpoint is, by its contents: two copies of different weights under one name are two checkpoints."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Set
from pathlib import Path

from ..data.resources import find
from .manifest import MARKER, cache_folder, entries, ready_folder
from .verify import file_sha256, read_marker

_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json", ".jinja", ".model", ".tiktoken", ".txt", ".yaml"}
"""Files that say what a model computes: weights, configurations, tokenizers; not cards, pictures and logs."""
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf"}
_ASIDE = {MARKER, "results.json"}
_CACHE = "identities.json"


def identity(checkpoint: str, only: Collection[str] = ()) -> str:
    """Identity of a checkpoint: 16 hex digits that change with its weights, configuration or tokenizer.

    A folder with recorded checksums, none of whose files is newer, is known by these, another folder by the contents of its
    files (read once, then remembered by path, size and time of change), a hub id by the commit in the local hub cache.
    Nothing is fetched: a checkpoint that is not here is known by its name alone, so ask after it was fetched.

    Args:
        checkpoint: Name in the manifest, a folder, or a hub id `owner/name`.
        only: Files of a folder that are used, by relative path; none named are all of them.

    Raises:
        RunError: If the recorded checksums are damaged.
    """
    return _identity(checkpoint, _SUFFIXES, only)


def weights_identity(checkpoint: str) -> str:
    """As `identity`, of the weights alone: a configuration or tokenizer that another library version wrote is no other model.

    Args:
        checkpoint: As in `identity`.

    Raises:
        RunError: If the recorded checksums are damaged.
    """
    return _identity(checkpoint, _WEIGHTS)


def is_here(checkpoint: str) -> bool:
    """Whether a checkpoint is on this machine, so that its identity is that of its contents.

    Args:
        checkpoint: As in `identity`.
    """
    entry = entries().get(checkpoint)
    if entry is not None:
        return ready_folder(entry) is not None
    return find(checkpoint) is not None or checkpoint.count("/") == 1 and bool(_cached_commit(checkpoint))


def _identity(checkpoint: str, suffixes: Set[str], only: Collection[str] = ()) -> str:
    entry = entries().get(checkpoint)
    folder = ready_folder(entry) if entry else find(checkpoint)
    if folder is not None and folder.is_dir():
        digests = read_marker(folder) if _is_current(folder) else _digests(folder, only)
        kept = {
            name: digest
            for name, digest in digests.items()
            if (name in only if only else _counts(Path(name)) and Path(name).suffix in suffixes)
        }
        return _short(json.dumps(kept, sort_keys=True))
    commit = _cached_commit(checkpoint) if entry is None and checkpoint.count("/") == 1 else ""
    return _short(f"{checkpoint}@{commit}" if commit else checkpoint)


def _is_current(folder: Path) -> bool:
    """Whether checksums were recorded, and no file has changed since."""
    marker = folder / MARKER
    if not marker.is_file():
        return False
    recorded = marker.stat().st_mtime_ns
    return all(path.stat().st_mtime_ns <= recorded for path in folder.rglob("*") if path.is_file())


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _counts(path: Path) -> bool:
    return path.suffix in _SUFFIXES and path.name not in _ASIDE and not any(part[0] == "." for part in path.parts)


def _digests(folder: Path, only: Collection[str] = ()) -> dict[str, str]:
    """sha256 of the files of a folder that has no record of them, by relative path; of these `only`, if there are any."""
    store = cache_folder() / _CACHE
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        known = dict(json.loads(store.read_text(encoding="utf-8")))
    found: dict[str, str] = {}
    fresh: dict[str, str] = {}
    for path in [folder / name for name in sorted(only)] if only else sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and (only or _counts(name)):
            state = path.stat()
            key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"
            digest = known.get(key) or fresh.setdefault(key, file_sha256(path))
            found[name.as_posix()] = digest
    if fresh:
        _remember(store, {**known, **fresh})
    return found


def _remember(store: Path, known: dict[str, str]) -> None:
    temporary = store.with_name(f"{store.name}.{os.getpid()}.tmp")
    # A read-only or full cache only means that the files are read again next time.
    with contextlib.suppress(OSError):
        store.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=0), encoding="utf-8")
        os.replace(temporary, store)


def _cached_commit(repo: str) -> str:
    """The commit of a hub repository that loading would take from the local hub cache, or the empty text."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, local_files_only=True)).name
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return ""
