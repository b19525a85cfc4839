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
_OUTER = ("embed", "lm_head")
"""In the names of layers that turn tokens into vectors, or back."""


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
    found = _shapes(folder)
    return sum(map(math.prod, found.values())) if found else None


def linear_values(folder: Path) -> int:
    """Those of `weight_values` that are weights of linear layers within the model: no embedding's, nor the output layer's.

    Args:
        folder: Folder of one language or vision-language model of transformers.
    """
    within = {name: shape for name, shape in _shapes(folder).items() if len(shape) == 2 and name.endswith(".weight")}
    return sum(math.prod(shape) for name, shape in within.items() if not any(mark in name for mark in _OUTER))


def _shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes of a folder's tensors by name; none where they cannot be read."""
    try:
        return {name: shape for file in _named(folder) for name, shape in _header(folder / file).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return {}


def _header(path: Path) -> dict[str, list[int]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _LONGEST_HEADER:
            raise ValueError(f"{path} has no header of safetensors")
        header = json.loads(file.read(length))
    return {name: list(map(int, entry["shape"])) for name, entry in header.items() if name != "__metadata__"}


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
