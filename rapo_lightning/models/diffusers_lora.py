"""A LoRA that is added to the weights of a diffusers pipeline's transformers, such as one for few steps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from ..checkpoints import loading, locate
from ..errors import UserError
from .diffusers_parts import diffusers_class

_MATRIX = re.compile(r"^(.+)\.lora_([AB])\.weight$")


@dataclass(frozen=True)
class VideoLora:
    """Which LoRA is added, and how much of it.

    Attributes:
        checkpoint: Name in the checkpoint manifest, folder, or hub id.
        weight_name: Its safetensors file in there.
        weight_name_2: The file of a pipeline's second transformer (Wan2.2: the one for the steps with little noise); empty
            leaves that one as it is.
        scale: Factor of what it changes.
    """

    checkpoint: str
    weight_name: str
    weight_name_2: str = ""
    scale: float = 1.0

    def files(self) -> list[tuple[str, Path]]:
        """Parts of the pipeline and the file of each; a hub id's is fetched.

        Raises:
            UserError: If the checkpoint is not here, or has no such file.
            RunError: If the hub gives none.
        """
        place = locate(self.checkpoint)
        named = {"transformer": self.weight_name, "transformer_2": self.weight_name_2}
        return [(part, _file(place, name)) for part, name in named.items() if name]


def _file(place: str, name: str) -> Path:
    if not Path(place).exists():
        from huggingface_hub import hf_hub_download

        with loading("LoRA", f"{place}/{name}"):
            return Path(hf_hub_download(place, name))
    if not (Path(place) / name).is_file():
        there = sorted(path.relative_to(place).as_posix() for path in Path(place).rglob("*.safetensors"))
        raise UserError(
            f"`lora` must name a file of its checkpoint's folder. Got {name!r} and {place}, which has "
            f"{', '.join(there[:20]) or 'no safetensors file'}; name one that is there."
        )
    return Path(place) / name


def lora_of(arguments: Mapping[str, Any]) -> VideoLora | None:
    """The LoRA among a video model's arguments, None for none.

    Raises:
        UserError: As `check_lora`, or if diffusers has no such pipeline.
    """
    given = arguments.get("lora")
    if not isinstance(given, Mapping):
        return None
    return check_lora(given, diffusers_class(arguments.get("pipeline", "WanPipeline"), "DiffusionPipeline", "pipeline"))


def check_lora(lora: Mapping[str, Any], pipeline: type) -> VideoLora | None:
    """Checks the argument `lora`, whose files need not be here yet; None for none.

    Args:
        lora: The fields of `VideoLora`.
        pipeline: The pipeline's class.

    Raises:
        UserError: If a field is unknown, missing or of another type, or the pipeline has no transformer for a LoRA.
    """
    if not lora:
        return None
    known = [field.name for field in fields(VideoLora)]
    if unknown := sorted(map(str, set(lora) - set(known))):
        raise UserError(f"`lora` takes {', '.join(known)}. Got {', '.join(unknown)}; leave it out.")
    for name in ("checkpoint", "weight_name"):
        if not isinstance(lora.get(name), str) or not lora[name]:
            raise UserError(f"`lora.{name}` must be a text. Got {lora.get(name)!r}; name the LoRA's {name}.")
    for name in ("weight_name", "weight_name_2"):
        _check_name(name, lora.get(name, ""))
    scale = lora.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise UserError(f"`lora.scale` must be a finite number. Got {scale!r}; 1.0 adds the LoRA as it was trained.")
    loadable = getattr(pipeline, "_lora_loadable_modules", ())
    for name, part in (("weight_name", "transformer"), ("weight_name_2", "transformer_2")):
        if lora.get(name) and part not in loadable:
            raise UserError(
                f"`lora.{name}` needs a pipeline for whose {part} diffusers loads LoRAs, such as WanPipeline. Got "
                f"{pipeline.__name__}; leave it out."
            )
    return VideoLora(**lora)


def _check_name(field: str, name: Any) -> None:
    # Pickles run code, and a path could lead out of what was fetched and is known by its contents.
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if name != "" and (not parts or ".." in parts or parts[0] == "/" or not name.endswith(".safetensors")):
        raise UserError(f"`lora.{field}` must be a safetensors file within its checkpoint. Got {name!r}; name one.")


def check_fit(lora: VideoLora, pipeline: Any, path: str) -> None:
    """Looks whether a LoRA is one for the pipeline's transformer, by its shapes, before the pipeline is loaded.

    Diffusers passes over layers that it does not find, so that the videos would be those without the LoRA.

    Args:
        lora: The LoRA.
        pipeline: The pipeline's class.
        path: Folder or hub id of the pipeline's checkpoint.

    Raises:
        UserError: If a file is not there or has no layer of a LoRA, a layer is not the transformer's, or has no finite weights.
        RunError: If a file or a configuration cannot be read.
    """
    with loading("video model's configuration", path):
        index = pipeline.load_config(path)
    for part, file in lora.files():
        class_name = (index.get(part) or (None, None))[1]
        if not class_name:
            raise UserError(
                f"`lora` needs a pipeline with a `{part}`. Got {path}, which has none; leave that file out."
            )
        shapes = _shapes(class_name, part, path)
        with loading("LoRA", file):
            matrices = _matrices(pipeline, file)
        wrong = sorted(
            {layer for (layer, side), value in matrices.items() if not _fits(value, side, shapes.get(layer))}
        )
        if wrong or not matrices:
            layers = len({layer for layer, _ in matrices})
            found = f"of whose {layers} layers {len(wrong)} are not in it, such as {wrong[0]}" if wrong else "with none"
            raise UserError(
                f"`lora` must be a LoRA for layers of the checkpoint's {class_name}. Got {file}, {found}; take one that was "
                f"made for {path}."
            )
        broken = sorted(layer for (layer, _), value in matrices.items() if not value.isfinite().all())
        if broken:
            raise UserError(f"`lora` must have finite weights. Got {file} with others in {broken[0]}; copy it anew.")


def _shapes(class_name: str, part: str, path: str) -> dict[str, torch.Size]:
    """Shapes of a transformer's weights by layer; none is read."""
    from accelerate import init_empty_weights

    found = diffusers_class(class_name, "ModelMixin", part)
    with loading("video model's configuration", path), init_empty_weights():
        model = found.from_config(found.load_config(path, subfolder=part))
    return {name.removesuffix(".weight"): value.shape for name, value in model.named_parameters() if value.ndim > 1}


def _matrices(pipeline: Any, file: Path) -> dict[tuple[str, str], torch.Tensor]:
    """A LoRA's matrices by layer of the transformer and side, as diffusers reads them."""
    from diffusers.utils import convert_unet_state_dict_to_peft

    read = pipeline.lora_state_dict(str(file.parent), weight_name=file.name)
    prefix = f"{pipeline.transformer_name}."
    weights = read[0] if isinstance(read, tuple) else read
    weights = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    if weights and "lora_A" not in next(iter(weights)):
        weights = convert_unet_state_dict_to_peft(weights)
    named = {_MATRIX.match(name): value for name, value in weights.items()}
    return {(found[1], found[2]): value for found, value in named.items() if found}


def _fits(matrix: torch.Tensor, side: str, shape: torch.Size | None) -> bool:
    """Whether a matrix is one for a layer's weight of this shape, `(outputs, inputs, ...)`."""
    if shape is None or matrix.ndim != len(shape):
        return False
    return matrix.shape[1:] == shape[1:] if side == "A" else matrix.shape[0] == shape[0]


def add_lora(lora: VideoLora, pipeline: Any) -> None:
    """Adds a LoRA to the weights of a pipeline that is on the CPU, so that nothing of it is left beside them.

    So the pipeline needs neither more memory nor time than without it, and compilation, caches and offloading find the layers
    that they know.

    Args:
        lora: The LoRA; see `check_fit`.
        pipeline: The pipeline.
    """
    parts = []
    for part, file in lora.files():
        into = {"load_into_transformer_2": True} if part == "transformer_2" else {}
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="lora", **into)
        parts.append(part)
    pipeline.fuse_lora(components=parts, lora_scale=float(lora.scale))
    pipeline.unload_lora_weights()
    for part in parts:
        # PEFT left the weights frozen, for which PyTorch takes other kernels: Mochi's videos differed by one level.
        getattr(pipeline, part).requires_grad_(True)
