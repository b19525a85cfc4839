"""Whether pairs are trained on in packs or padded, by one rule, and the model made ready for packs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_layers import GradientCheckpointingLayer

from ..checkpoints import loading, locate
from ..errors import UserError
from ..recipe import Recipe
from .objectives.packed import ATTENTION, compile_parts

Packing = Literal["packs", "padding"]
_LEAST_CAPABILITY = (8, 0)
"""What FlexAttention's kernels and bfloat16 need (Ampere)."""
_LEAST_HEAD = 16
"""Width of a head that FlexAttention's kernels need."""
_OTHER_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_multiplier_scale",
)
"""Settings of models whose logits are not what their head gives."""
_SHARDING = ("fsdp", "ShardedBase", "ModelParallelStrategy")
"""What is in the name of a strategy under which no device has a whole layer to ask for."""
_VARIANTS = 8
"""Forms of a layer that are compiled at most: trained or not, with its adapter, the reference or none."""


def packing_of(recipe: Recipe, checkpoint: str) -> Packing:
    """What `stage3.optimizer.packing` means here; the base model's configuration is read, not its weights.

    `auto` takes packs on CUDA devices of compute capability 8.0 or more, where the model can be packed and is not quantized, and
    else padding.

    Args:
        recipe: The recipe.
        checkpoint: Name of the base model's checkpoint.

    Raises:
        UserError: If packs are asked for and cannot be had, or one does not hold the longest pair.
    """
    settings, stage3 = recipe.stage3.optimizer, recipe.stage3
    on_cpu = recipe.trainer.get("accelerator", "auto") == "cpu" or not torch.cuda.is_available()
    if settings.packing == "padding" or (settings.packing == "auto" and on_cpu):
        return "padding"
    found = _hindrance(recipe, checkpoint, on_cpu)
    if found and settings.packing == "auto":
        return "padding"
    if found:
        raise UserError(
            "`stage3.optimizer.packing: packs` needs a device and a model whose attention can be replaced. Got "
            f"{found}; leave `packing` out, or set it to padding."
        )
    # Both texts of a preference lie in one pack, and the accuracy on held-out ones is measured while any objective is trained.
    if settings.pack_tokens < 2 * stage3.max_length:
        raise UserError(
            "`stage3.optimizer.pack_tokens` must hold the longest pair, and of a preference both texts: twice `stage3.max_length`. Got "
            f"{settings.pack_tokens} and {stage3.max_length}; raise the first, lower the second, or set `packing` to padding."
        )
    return "packs"


def _hindrance(recipe: Recipe, checkpoint: str, on_cpu: bool) -> str:
    """What is in the way of packs, empty if nothing is."""
    if not on_cpu and torch.cuda.get_device_capability() < _LEAST_CAPABILITY:
        major, minor = torch.cuda.get_device_capability()
        return f"a CUDA device of compute capability {major}.{minor}, below 8.0"
    strategy = str(recipe.trainer.get("strategy", "auto"))
    if any(name in strategy for name in _SHARDING):
        return f"`trainer.strategy` {strategy}, which shards the base"
    lora = recipe.stage3.lora
    if lora.quantization == "nf4":
        return f"a base in {lora.quantization}"
    path = locate(checkpoint)
    with loading("language model", path):
        whole = AutoConfig.from_pretrained(path, trust_remote_code=False)
    kind = AutoModelForCausalLM._model_mapping.get(type(whole), None)
    return model_hindrance(whole, kind, recipe.stage3.max_length, lora.target_modules, not on_cpu)


def model_hindrance(whole: Any, kind: Any, longest: int, adapted: list[str], on_gpu: bool = False) -> str:
    """Why a model cannot be trained in packs, empty if it can.

    Args:
        whole: Its configuration.
        kind: Its class in transformers.
        longest: Longest sequence in tokens.
        adapted: Names of the layers that adapters are put on.
        on_gpu: Whether FlexAttention's kernels are used.
    """
    config = whole.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    name = config.model_type
    heads = getattr(config, "num_attention_heads", None)
    width = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)
    if not getattr(kind, "_supports_attention_backend", False):
        return f"{name}, whose attention cannot"
    if layers != {"full_attention"} or (not hasattr(config, "layer_types") and window and window < longest):
        return f"{name}, whose layers do not all attend to everything before"
    if any(getattr(config, item, None) not in (None, 1, 1.0) for item in _OTHER_LOGITS):
        return f"{name}, whose logits are scaled behind its head"
    if on_gpu and width < _LEAST_HEAD:
        return f"{name} with heads of {width}, below {_LEAST_HEAD}"
    return "an adapter on the head" if {"lm_head", "embed_out"} & set(adapted) else ""


@contextmanager
def made_ready(model: Any, packing: Packing, device: torch.device) -> Iterator[None]:
    """A model whose attention keeps to its pack, and whose layers are compiled on a GPU; afterwards it is as it was.

    Args:
        model: A PEFT model.
        packing: What it is trained on.
        device: Where it is trained.
    """
    if packing == "padding":
        yield
        return
    base = model.get_base_model()
    before = base.config._attn_implementation
    layers = [layer for layer in base.modules() if isinstance(layer, GradientCheckpointingLayer)]
    with ExitStack() as stack:
        # Where there is no FlexAttention to train with, the same mask is a whole one.
        base.set_attn_implementation(ATTENTION if device.type == "cuda" else "sdpa")
        stack.callback(base.set_attn_implementation, before)
        if device.type == "cuda":
            stack.enter_context(_compiling(len(layers)))
            for layer in layers:
                # Packs have one size, so each is compiled once.
                layer.compile(dynamic=False)
                stack.callback(setattr, layer, "_compiled_call_impl", None)
        yield


@contextmanager
def _compiling(layers: int) -> Iterator[None]:
    import torch._dynamo as dynamo

    compile_parts()
    many = {"cache_size_limit": layers * _VARIANTS, "accumulated_cache_size_limit": layers * _VARIANTS * 4}
    # DistributedDataParallel's own way to split a graph refuses FlexAttention, and layers are small graphs as it is.
    with dynamo.config.patch(optimize_ddp=False, **many):
        yield
    dynamo.reset()
