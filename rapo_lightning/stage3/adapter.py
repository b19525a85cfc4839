"""The adapter that is trained, and the frozen base under it, as the recipe says."""

from __future__ import annotations

from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D
from transformers.utils import is_bitsandbytes_available

from ..errors import RunError, UserError
from ..models.quantization import EXTRA
from ..recipe import Lora, Recipe, Stage3
from ..recipe.training import ALL_LINEAR

Task = Literal["CAUSAL_LM", "SEQ_CLS"]
HEAD = "score"
"""Name of the layer that gives a classifier's number, in transformers."""


def check_quantization(recipe: Recipe) -> None:
    """Looks whether a quantized base can be trained on here; to be called before anything is fetched or loaded.

    Raises:
        UserError: If `stage3.lora.quantization` is set, and bitsandbytes or a CUDA device is missing, or the device cannot do it.
    """
    chosen = recipe.stage3.lora.quantization
    if chosen == "float8":
        _check_float8(recipe)
    if chosen != "nf4":
        return
    needs = f"`stage3.lora.quantization: {chosen}` needs bitsandbytes and a CUDA device."
    if not is_bitsandbytes_available():
        raise UserError(f"{needs} Got no bitsandbytes that transformers takes; run `{EXTRA}`, or set it to none.")
    if not torch.cuda.is_available() or recipe.trainer.get("accelerator") == "cpu":
        raise UserError(
            f"{needs} Got none that `trainer` may use; train on a machine with one, or set quantization to none."
        )


def _check_float8(recipe: Recipe) -> None:
    on_gpu = torch.cuda.is_available() and recipe.trainer.get("accelerator") != "cpu"
    found = "{}.{}".format(*torch.cuda.get_device_capability()) if on_gpu else "no CUDA device that `trainer` may use"
    if not on_gpu or torch.cuda.get_device_capability() < (8, 9):
        raise UserError(
            "`stage3.lora.quantization: float8` needs a CUDA device of compute capability 8.9 or more (Ada, Hopper and newer). Got "
            f"{found}; set it to none."
        )
    if recipe.stage3.lora.variant == "dora" or recipe.stage3.objective == "reward":
        raise UserError(
            "`stage3.lora.quantization: float8` goes with LoRA and rsLoRA on a language model. Got "
            f"variant {recipe.stage3.lora.variant}, objective {recipe.stage3.objective}; set it to none."
        )


def linear_layers(base: Any) -> list[str]:
    """Last names of a model's linear layers, the output's aside, sorted: what an adapter is usually put on.

    Args:
        base: A causal language model of transformers, quantized or not.
    """
    outputs = (base.get_output_embeddings(), getattr(base, HEAD, None))
    found = {
        name.rsplit(".", 1)[-1]
        for name, layer in base.named_modules()
        if isinstance(layer, (torch.nn.Linear, Conv1D)) and not any(layer is output for output in outputs)
    }
    return sorted(found)


def lora_config(base: Any, lora: Lora, task: Task = "CAUSAL_LM") -> LoraConfig:
    """PEFT's configuration of the adapter; layers are named one by one, so that PEFT and vLLM find the same ones.

    Args:
        base: The model it will be put on.
        lora: Settings.
        task: What the base is for; a classifier's head is trained whole.

    Raises:
        UserError: If one of `target_modules` is no layer of the base.
    """
    layers = linear_layers(base)
    if lora.target_modules != [ALL_LINEAR]:
        names = [name for name, _ in base.named_modules()]
        # PEFT's rule; it passes over a name that fits nothing where another one does.
        lacking = [
            target
            for target in lora.target_modules
            if not any(name == target or name.endswith(f".{target}") for name in names)
        ]
        if lacking:
            raise UserError(
                f"`stage3.lora.target_modules` must name layers of the language model. Got {', '.join(lacking)}; it has "
                f"{', '.join(layers)}, or all of these as [{ALL_LINEAR}]."
            )
        layers = list(lora.target_modules)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=layers,
        use_dora=lora.variant == "dora",
        use_rslora=lora.variant == "rslora",
        task_type=task,
        modules_to_save=[HEAD] if task == "SEQ_CLS" else None,
    )


def trainable(base: Any, stage3: Stage3, task: Task = "CAUSAL_LM") -> Any:
    """The base, frozen, under a fresh adapter in float32; torch's seed decides how it starts.

    Args:
        base: A causal language model of transformers.
        stage3: Settings.
        task: What the base is for.

    Returns:
        A `peft.PeftModel`.

    Raises:
        UserError: As `lora_config`, or if PEFT cannot adapt one of the layers.
    """
    base.config.use_cache = False
    if stage3.gradient_checkpointing:
        _forget_activations(base)
    try:
        return get_peft_model(base, lora_config(base, stage3.lora, task))
    except ValueError as error:
        raise UserError(
            f"`stage3.lora.target_modules` must name layers that can be adapted. Got {stage3.lora.target_modules}: "
            f"{' '.join(str(error).split())[:200]}; it has {', '.join(linear_layers(base))}."
        ) from error


def set_dropout(model: Any, rate: float) -> None:
    """Changes the dropout of a model's adapter, as PEFT would have built it.

    Args:
        model: From `trainable`.
        rate: Share of the adapter's inputs that are dropped.
    """
    model.peft_config["default"].lora_dropout = rate
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.lora_dropout["default"] = torch.nn.Dropout(rate) if rate else torch.nn.Identity()


def _forget_activations(base: Any) -> None:
    """Has the blocks of a model computed again in the backward pass (Chen et al., arXiv:1604.06174)."""
    # The older name is that of transformers 5.0, and goes in 6.
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    for layer in base.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            # Only blocks in training mode are; what is within them keeps its own mode, as the frozen base has no dropout.
            layer.training = True


def load_adapter(model: Any, weights: dict[str, Tensor]) -> None:
    """Puts weights into the trained parameters of a model.

    Args:
        model: A PEFT model.
        weights: Tensors by the parameters' names.

    Raises:
        RunError: If they are not exactly those that are trained.
    """
    expected = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if set(weights) != set(expected) or any(weights[name].shape != expected[name].shape for name in expected):
        missing, extra = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
        differing = [name for name in expected if name in weights and weights[name].shape != expected[name].shape]
        raise RunError(
            f"The checkpoint belongs to another adapter. Got {len(missing)} missing, {len(extra)} unknown and "
            f"{len(differing)} differing tensors, such as {(missing + extra + differing)[0]}; delete the run's `checkpoints` "
            "folder to train anew."
        )
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(weights[name])
