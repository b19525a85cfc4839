"""Loads causal language models of transformers, and LoRA adapters onto them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ..checkpoints import loading, locate
from ..data.ids import derived_seed

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
    """
    from peft import PeftModel

    with loading("adapter", adapter):
        # In the base's own type: adapters are stored in bfloat16 and would otherwise be kept in float32 beside it.
        return PeftModel.from_pretrained(model, locate(adapter), adapter_name=key, autocast_adapter_dtype=False)


def load_causal_model(
    checkpoint: str, dtype: Literal["auto", "float32", "bfloat16"] = "auto"
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Loads a causal language model on the CPU and its tokenizer, padding on the left.

    Args:
        checkpoint: Name in the checkpoint manifest, folder, or hub id.
        dtype: As in `TransformersLanguageModel`.
    """
    path = locate(checkpoint)
    weights = _DTYPES.get(dtype, torch.bfloat16 if torch.cuda.is_available() else torch.float32)
    with loading("language model", path):
        model = AutoModelForCausalLM.from_pretrained(path, dtype=weights, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left", trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # A checkpoint's own sampling defaults would only add warnings: decoding is greedy over perturbed scores.
    generation = model.generation_config
    generation.do_sample, generation.temperature, generation.top_p, generation.top_k = False, None, None, None
    generation.repetition_penalty = None
    return model, tokenizer
