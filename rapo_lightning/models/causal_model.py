"""Loads causal language models of transformers, and LoRA adapters onto them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ..checkpoints import loading, locate
from ..data.ids import derived_seed
from ..errors import RunError
from .quantization import loading_arguments

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def adapter_key(folder: str) -> str:
    """Name under which PEFT keeps an adapter; names of modules may hold no dots, paths do."""
    return f"adapter_{derived_seed(locate(folder))}"


def with_adapter(model: Any, adapter: str, key: str) -> Any:
    """The model with an adapter on it.

    Args:
        model: The base.
        adapter: PEFT folder.
        key: Name that PEFT keeps it under.

    Raises:
        RunError: If it cannot be loaded, or its weights are not those of the model's layers.
    """
    from peft import PeftModel

    with loading("adapter", adapter):
        adapted = PeftModel.from_pretrained(
            model, locate(adapter), adapter_name=key, autocast_adapter_dtype=needs_float32(adapter)
        )
        check_fit(adapted, adapter, key)
        return adapted


def add_adapter(model: Any, adapter: str, key: str) -> None:
    """Puts a further adapter on a model that `with_adapter` made.

    Args:
        model: The model.
        adapter: PEFT folder.
        key: Name that PEFT keeps it under.

    Raises:
        RunError: As `with_adapter`.
    """
    with loading("adapter", adapter):
        model.load_adapter(locate(adapter), adapter_name=key, autocast_adapter_dtype=needs_float32(adapter))
        check_fit(model, adapter, key)


def check_fit(model: Any, adapter: str, key: str) -> None:
    """Looks whether an adapter that was loaded has weights for every layer it is on.

    PEFT passes over layers that do not fit, so that the base alone would answer.

    Args:
        model: A PEFT model with the adapter.
        adapter: PEFT folder.
        key: Name that PEFT keeps it under.

    Raises:
        RunError: If a layer's weights are missing, belong to no layer, or are no finite numbers.
    """
    from peft import get_peft_model_state_dict, load_peft_weights

    read = load_peft_weights(locate(adapter), device="cpu")
    stored = {name: value for name, value in read.items() if "lora_" in name}
    placed = get_peft_model_state_dict(model, adapter_name=key, save_embedding_layers=False)
    differing = sorted(stored.keys() ^ {name for name in placed if "lora_" in name})
    broken = sorted(name for name, value in stored.items() if not value.isfinite().all())
    if differing or broken:
        found = (
            f"{differing[0]} on one side alone" if differing else f"{broken[0]} with values that are no finite numbers"
        )
        raise RunError(
            f"An adapter must have finite weights for the layers of its base, each and no others. Got {adapter} with {found}; "
            "take the base that it was trained on, or copy or train the adapter anew."
        )


def needs_float32(adapter: str) -> bool:
    """Whether an adapter is held in float32 beside a base of another type.

    LoRA's matrices are not: they are stored in bfloat16 anyway. DoRA's magnitudes are the norms of weights, and what training
    changed of them would be lost to bfloat16's eight bits.

    Args:
        adapter: PEFT folder.
    """
    from peft import PeftConfig

    return bool(getattr(PeftConfig.from_pretrained(locate(adapter)), "use_dora", False))


def context_of(checkpoint: str) -> int | None:
    """Most tokens that a model was made for, None where its configuration knows no end; its weights are not read.

    Args:
        checkpoint: Name in the checkpoint manifest, folder, or hub id.
    """
    path = locate(checkpoint)
    with loading("language model", path):
        config = AutoConfig.from_pretrained(path, trust_remote_code=False).get_text_config()
    return getattr(config, "max_position_embeddings", None)


def tokenizer_of(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model's folder or hub id, which pads on the left."""
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left", trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def read_tokenizer(checkpoint: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint alone."""
    path = locate(checkpoint)
    with loading("language model", path):
        return tokenizer_of(path)


def load_causal_model(
    checkpoint: str,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    quantization: Literal["none", "int8", "nf4", "float8"] = "none",
    device: torch.device | str = "cuda",
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Loads a causal language model on the CPU and its tokenizer, padding on the left.

    Args:
        checkpoint: Name in the checkpoint manifest, folder, or hub id.
        dtype: As in `TransformersLanguageModel`.
        quantization: `int8` and `nf4` quantize the linear layers but the output's on loading; they need bitsandbytes. `float8` is
            put under the adapter later.
        device: Where a quantized model is put; any other is on the CPU.
    """
    path = locate(checkpoint)
    weights = _DTYPES.get(dtype, torch.bfloat16 if torch.cuda.is_available() else torch.float32)
    with loading("language model", path):
        quantized = loading_arguments("none" if quantization == "float8" else quantization, weights, device)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=weights, trust_remote_code=False, **quantized)
        tokenizer = tokenizer_of(path)
    # A checkpoint's own sampling defaults would only add warnings: decoding is greedy over perturbed scores.
    generation = model.generation_config
    generation.do_sample, generation.temperature, generation.top_p, generation.top_k = False, None, None, None
    generation.repetition_penalty = None
    return model, tokenizer
