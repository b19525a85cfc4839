"""LoRAs for the tiny Wan of `tiny_models`, as training scripts of diffusers save them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import WanPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from rapo_lightning.models import DiffusersVideoModel
from tests import tiny_models

CALL = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2, "max_sequence_length": 64}
FILE = "students/few.safetensors"
"""Where the LoRA lies in its checkpoint."""


def attention_lora(pipeline: Any, folder: Path, name: str) -> Path:
    """A random LoRA of rank 4 on the attention of any pipeline's transformer."""
    torch.manual_seed(1)
    pipeline.transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k"]))
    for key, value in pipeline.transformer.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(value, std=0.5)
    type(pipeline).save_lora_weights(folder, get_peft_model_state_dict(pipeline.transformer), weight_name=name)
    return folder


def wan_lora(folder: Path, name: str, seed: int = 1) -> Path:
    """A random LoRA of rank 4 on attention and MLP, as training scripts of diffusers save it."""
    transformer = tiny_models.wan_transformer()
    torch.manual_seed(seed)
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0", "proj"]))
    for key, value in transformer.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(value, std=0.5)
    layers = get_peft_model_state_dict(transformer)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    WanPipeline.save_lora_weights((folder / name).parent, layers, weight_name=Path(name).name)
    return folder


def changed_lora(lora: Path, folder: Path, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """The file `name` of a LoRA's folder with other tensors, in another folder."""
    (folder / name).parent.mkdir(parents=True)
    save_file({key: value.clone() for key, value in change(load_file(lora / name)).items()}, folder / name)
    return folder


def model(wan: Path, student: Path | None = None, **fields: Any) -> DiffusersVideoModel:
    """The tiny Wan with a LoRA of `wan_lora`, or without one."""
    lora = {"checkpoint": str(student), "weight_name": FILE, **fields} if student else None
    return DiffusersVideoModel(str(wan), call=CALL, dtype="float32", lora=lora)
