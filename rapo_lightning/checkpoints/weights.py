"""How much there is in a folder of weights, and what of it is missing, read from headers and indices alone."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

_SINGLE = ("diffusion_pytorch_model.safetensors", "model.safetensors")
_INDICES = tuple(f"{name}.index.json" for name in _SINGLE)
_OTHERS = (".bin", ".pt", ".pth", ".gguf")
_LONGEST_HEADER = 100_000_000


def _named(folder: Path) -> list[str]:
    """Files that a folder's weights are in: those of its index, the one of the usual name, or whatever safetensors it has."""
    for name in _INDICES:
        if (folder / name).is_file():
            return sorted(set(json.loads((folder / name).read_text(encoding="utf-8")).get("weight_map", {}).values()))
    for name in _SINGLE:
        if (folder / name).is_file():
            return [name]
    return sorted(path.name for path in folder.glob("*.safetensors"))


def weight_values(folder: Path) -> int | None:
    """Number of values in a folder's safetensors files, by their headers; None where there are none or they cannot be read.

    Args:
        folder: Folder of one model, such as a pipeline's `transformer`.
    """
    try:
        counts = [_values(folder / name) for name in _named(folder)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None
    return sum(counts) if counts else None


def _values(path: Path) -> int:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _LONGEST_HEADER:
            raise ValueError(f"{path} has no header of safetensors")
        header = json.loads(file.read(length))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def missing_weights(folder: Path) -> list[str]:
    """What a folder's weights lack: files that its index names, or all of them."""
    try:
        lacking = [name for name in _named(folder) if not (folder / name).is_file()]
    except (OSError, ValueError, TypeError, AttributeError):
        return ["a readable index"]
    if lacking:
        return lacking
    has_any = bool(_named(folder)) or any(path.suffix in _OTHERS for path in folder.iterdir())
    return [] if has_any else ["weights"]
