"""Likelihoods of completions under a causal language model, with no more arithmetic than they take."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.nn.functional import cross_entropy, pad

from datamodules.packs import IGNORED
from datamodules.pairs import Batch

_WORTH = 8
"""Tokens that sequences must begin with in common before these are computed apart (ours)."""


def token_losses(model: Any, batch: Batch, labels: Tensor, share: bool = True) -> Tensor:
    """Negative log-likelihood of each token, `(sequences, length - 1)`, in float32 at least and 0 where there is no label.

    All training pairs begin with the same instruction. What the sequences of a batch begin with in common is computed once
    for all of them, keys and values going on with their gradients: the same mathematics but for the dropout in it,
    which they share then. The head is asked from the first label on alone.

    Args:
        model: A causal language model, with an adapter or without.
        batch: `input_ids` and `attention_mask`, each `(sequences, length)`, padded on the right.
        labels: `(sequences, length)`, `IGNORED` where there is no loss.
        share: Whether common beginnings are computed once; not with gradient checkpointing, which keeps no keys and values.
    """
    following = labels[:, 1:]
    counted = (following != IGNORED).any(0)
    kept = following.shape[1] - int(counted.int().argmax()) if bool(counted.any()) else 1
    logits = _logits(model, batch["input_ids"], batch["attention_mask"], kept + 1, share)[:, :-1]
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = cross_entropy(exact.flatten(0, 1), following[:, -kept:].flatten(), ignore_index=IGNORED, reduction="none")
    return pad(losses.view(len(labels), kept), (following.shape[1] - kept, 0))


def _logits(model: Any, ids: Tensor, mask: Tensor, kept: int, share: bool) -> Tensor:
    """Logits of the last positions `(sequences, kept, words)`."""
    common = _common(ids, mask, kept) if share and _attends_to_all(model) else 0
    if common < _WORTH:
        return model(input_ids=ids, attention_mask=mask, logits_to_keep=kept).logits
    cached = _cached(model)
    first = model(input_ids=ids[:1, :common], use_cache=True, logits_to_keep=1)
    begun = getattr(first, cached)
    begun.batch_repeat_interleave(len(ids))
    rest = {"input_ids": ids[:, common:], "attention_mask": mask, cached: begun}
    logits = model(**rest, use_cache=True, logits_to_keep=kept).logits
    # FSDP2 gathers a layer's weights for the backward pass when the gradient of its output comes. That of the common beginning
    # leaves the last layer by its keys and values alone, past that output; nothing, added, makes it come.
    return logits + 0 * first.logits.mean() if isinstance(model, FSDPModule) else logits


def _cached(model: Any) -> str:
    """What a model calls the keys and values that it goes on from; transformers renamed them."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "cache" if "cache" in inspect.signature(type(base).forward).parameters else "past_key_values"


def _common(ids: Tensor, mask: Tensor, kept: int) -> int:
    """Number of tokens that all sequences begin with, 0 where there is one alone; the last positions stay out of it."""
    if len(ids) < 2:
        return 0
    alike = ((ids == ids[:1]) & (mask == 1)).all(0)
    return min(int(alike.int().cumprod(0).sum()), ids.shape[1] - kept)


def _attends_to_all(model: Any) -> bool:
    """Whether every layer attends to everything before, so that it can go on from keys and values that others made."""
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    return set(layers) == {"full_attention"} and not getattr(config, "is_encoder_decoder", False)
