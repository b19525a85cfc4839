"""Models of transformers in 8 or 4 bits: bitsandbytes quantizes their linear layers while they are loaded."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

import torch
from transformers import BitsAndBytesConfig, PretrainedConfig
from transformers.utils import is_bitsandbytes_available

from ..checkpoints import is_here, locate
from ..errors import UserError
from .placement import Policy

Quantization = Literal["none", "int8", "nf4"]
EXTRA = "pip install 'rapo-lightning[qlora]'"
"""What installs bitsandbytes."""
_BYTES = {"int8": 1.0, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256)}
"""Bytes of a quantized value: in `nf4` with a constant of 8 bits for 64 of them, and one of 32 bits for 256 of these."""


def loading_arguments(kind: Quantization, dtype: torch.dtype, device: torch.device | str) -> dict[str, Any]:
    """What `from_pretrained` takes for a quantized model; nothing for one that is not.

    `int8` is LLM.int8() (arXiv:2208.07339), `nf4` QLoRA's normal float, its constants quantized too (arXiv:2305.14314, section 3).

    Args:
        kind: The quantization.
        dtype: Type that `nf4` computes in, and of what stays as it is: the output layer, embeddings and norms.
        device: Where the model is put.
    """
    if kind == "none":
        return {}
    config = BitsAndBytesConfig(load_in_8bit=True)
    if kind == "nf4":
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    return {"quantization_config": config, "device_map": {"": device}}


def quantized_bytes(kind: str, values: int, linear: int, width: int) -> int:
    """Bytes of a model's weights.

    Args:
        kind: The quantization.
        values: All values of the model.
        linear: Those of the layers that are quantized.
        width: Bytes of a value that is not.
    """
    return round((values - linear) * width + linear * _BYTES.get(kind, width))


def check_arguments(kind: Quantization, batch_size: int, adapter: str = "", installed: bool | None = None) -> None:
    """Looks whether what a recipe asks for is here and goes together.

    Args:
        kind: The quantization.
        batch_size: Answers or videos a call.
        adapter: PEFT folder that is merged into the weights, empty for none.
        installed: Whether bitsandbytes is here; None looks.

    Raises:
        UserError: If bitsandbytes is not here, an answer would depend on others, or an adapter be lost to rounding.
    """
    if kind != "none" and not (is_bitsandbytes_available() if installed is None else installed):
        raise UserError(
            f"`quantization: {kind}` needs bitsandbytes. Got none that transformers takes; run `{EXTRA}`, or set it to none."
        )
    if kind == "int8" and batch_size != 1:
        raise UserError(
            "`quantization: int8` decides for all answers of a batch together what it computes in 16 bits, and an answer must "
            f"depend on no other. Got `batch_size: {batch_size}`; set it to 1, or take nf4."
        )
    if kind != "none" and adapter:
        raise UserError(
            f"`adapter` is merged into the weights, which would round it off in {kind}. Got {adapter!r}; leave one of both out."
        )


def check_residency(kind: Quantization, policy: Policy) -> None:
    """Looks whether a policy leaves a model where it is, if it must.

    A model's `to` moves bitsandbytes' 8 bits and not their scales, which its layers keep aside.

    Raises:
        UserError: If it does not.
    """
    if kind == "int8" and policy != "resident":
        raise UserError(
            "`quantization: int8` needs a model that stays on its device, since bitsandbytes cannot move one. Got `residency: "
            f"{policy}`; set it to resident, or take nf4."
        )


def check_place(kind: Quantization, checkpoint: str, device: torch.device) -> None:
    """Looks whether a checkpoint can be quantized for a device; a hub id or known checkpoint that is not here passes.

    Args:
        kind: The quantization.
        checkpoint: Name in the checkpoint manifest, folder, or hub id.
        device: Where it will be put.

    Raises:
        UserError: If bitsandbytes has nothing for the device, or the checkpoint's weights are quantized already.
    """
    if kind == "none":
        return
    import bitsandbytes  # late: it looks for its libraries

    # Releases before this list knew CUDA alone.
    supported = sorted(getattr(bitsandbytes, "supported_torch_devices", {"cuda"}))
    if device.type not in supported:
        raise UserError(
            f"`quantization: {kind}` needs a device of {', '.join(supported)}, for which bitsandbytes {version('bitsandbytes')} is "
            f"made. Got {device.type}; set it to none."
        )
    check_not_quantized(kind, checkpoint)


def check_not_quantized(kind: Quantization, checkpoint: str) -> None:
    """Looks whether a checkpoint that is here has plain weights.

    Raises:
        UserError: If they are quantized already.
    """
    if kind == "none" or not is_here(checkpoint):
        return
    found = PretrainedConfig.get_config_dict(locate(checkpoint))[0].get("quantization_config")
    if found:
        method = found.get("quant_method", "a method that it does not name")
        raise UserError(
            f"`quantization: {kind}` needs weights that are not quantized yet. Got {checkpoint}, quantized by {method}; name the "
            "checkpoint that it was made of, or set `quantization` to none."
        )


class Quantizable:
    """A model of transformers that may be quantized: then it is loaded where it works, and may have to stay there."""

    name: str
    model: Any
    quantization: Quantization = "none"
    _place: torch.device | None = None

    def load(self) -> None:
        """Loads the model, once, at `_where_to_load`."""
        raise NotImplementedError

    def to(self, device: torch.device) -> None:
        """Loads if needed and moves to `device`.

        Raises:
            UserError: If it cannot be there, or is elsewhere and cannot be moved.
        """
        self._place = device
        self.load()
        if self.quantization != "int8":
            self.model.to(device)
        elif self.model.device.type != device.type or device.index not in (None, self.model.device.index):
            raise UserError(
                f"A model in int8 stays where it was loaded. Got {device} for one on {self.model.device}; put it there before "
                "its first answer, or take nf4."
            )

    def check_place(self, device: torch.device, policy: Policy) -> None:
        """Looks, before anything is loaded, whether it can be on a device under a policy; in no protocol.

        Raises:
            UserError: If it cannot.
        """
        check_residency(self.quantization, policy)
        check_place(self.quantization, self.name, device)

    def _where_to_load(self) -> torch.device:
        """Where a quantized model is loaded: where it was put, or on the GPU if there is one."""
        place = self._place or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        check_place(self.quantization, self.name, place)
        return place
