"""A frozen base of which every device holds a part (FSDP2), under an adapter that is whole on each."""

from __future__ import annotations

import inspect
from typing import Any

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers.modeling_layers import GradientCheckpointingLayer

from ....errors import UserError
from ....recipe import Stage3


def check_sharding(stage3: Stage3, chained: bool) -> None:
    """Looks whether a base can be sharded as a training needs it; no model is loaded.

    Args:
        stage3: Settings.
        chained: Whether the training goes on with another one's adapter.

    Raises:
        UserError: If it cannot.
    """
    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise UserError("`trainer.strategy: fsdp2` needs torch 2.7 or newer. Got an older one; update it, or take ddp.")
    if stage3.lora.quantization != "none":
        raise UserError(
            f"`trainer.strategy: fsdp2` shards a base that is not quantized. Got `stage3.lora.quantization: "
            f"{stage3.lora.quantization}`; set it to none, or take ddp."
        )
    if chained and stage3.lora.variant == "dora":
        # The magnitudes of the reference would be norms of weights that no device has.
        raise UserError(
            "`trainer.strategy: fsdp2` goes on from one objective to the next with plain LoRA. Got `stage3.lora.variant: dora`; "
            "set it to lora, or take ddp."
        )


def shard_base(model: Any, mesh: DeviceMesh) -> None:
    """Shards the base of a PEFT model, layer by layer, so that no device ever holds more than its part and a layer.

    The adapter stays whole and in float32: FSDP2 gathers parameters of one type alone, an adapter is small beside its base, and
    what is clipped, watched and saved is then the same as under DDP. Its gradients are averaged by the strategy. A model that is
    sharded already, by an objective before, stays as it is.

    Args:
        model: A PEFT model on the CPU; the root, as it is what is called.
        mesh: All devices, in one dimension.
    """
    if isinstance(model, FSDPModule):
        return
    dtype = model.get_input_embeddings().weight.dtype
    # Some models keep a few small weights of the base in float32.
    whole = {item for name, item in model.named_parameters() if "lora_" in name or item.dtype != dtype}
    for layer in list(model.modules()):
        if isinstance(layer, GradientCheckpointingLayer):
            fully_shard(layer, mesh=mesh, ignored_params=whole)
    fully_shard(model, mesh=mesh, ignored_params=whole)
