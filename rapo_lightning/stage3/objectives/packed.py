"""Likelihoods of sequences that lie side by side in a pack; see `datamodules.packs` for how they lie there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import linear
from transformers import AttentionInterface

from datamodules.pairs import Batch

ATTENTION = "rapo_packs"
"""Name that transformers knows the attention within packs by."""
_CHUNK = 1024
"""Positions that logits are there of at a time (ours): 0.6 GB of float32 with a vocabulary of 152,000."""
_compiled: dict[str, Callable[..., Any]] = {}


def sequence_losses(model: Any, batch: Batch) -> Tensor:
    """Negative log-likelihood of each sequence of a pack, `(sequences,)`, in float32 at least.

    A token attends to what is before it in its own sequence, which is the mathematics of one sequence alone; what sequences
    begin with in common is there once, and so is its dropout. The head is asked where a token with a label follows alone.

    Args:
        model: A PEFT model on a causal language model of transformers, whose head is frozen.
        batch: From `datamodules.packs.lay_pack`.
    """
    base = model.get_base_model()
    found = base.get_decoder()(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        attention_mask=pack_mask(batch["until"]),
        use_cache=False,
    ).last_hidden_state
    head = base.get_output_embeddings()
    losses = HeadLosses.apply(found[0].index_select(0, batch["where"]), head.weight, head.bias, batch["targets"])
    return losses.new_zeros(len(batch["counts"])).index_add(0, batch["owner"], losses)


def pack_mask(until: Tensor) -> Tensor | BlockMask:
    """Who attends to whom: a mask by blocks for FlexAttention on a GPU, elsewhere a whole one `(1, 1, size, size)`.

    Args:
        until: The position that each token is no longer seen from, `(size,)`.
    """

    def seen(batch: Any, head: Any, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < until[key])

    if until.device.type == "cuda":
        return create_block_mask(seen, None, None, len(until), len(until), device=until.device)
    places = torch.arange(len(until), device=until.device)
    return seen(None, None, places[:, None], places[None])[None, None]


def pack_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: BlockMask,
    scaling: float | None = None,
    **further: Any,
) -> tuple[Tensor, None]:
    """FlexAttention as transformers calls it, `(1, heads, size, width)` to `(1, size, heads, width)`.

    Grouped keys are not repeated.
    """
    attend = _compiled.get("attention", flex_attention)
    shared = query.shape[1] != key.shape[1]
    found = attend(query, key, value, block_mask=attention_mask, scale=scaling, enable_gqa=shared)
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, pack_attention)


def compile_parts() -> None:
    """Compiles attention and losses, for a GPU."""
    import torch._dynamo as dynamo

    measure = torch.compile(losses_and_slopes)

    def measured(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # Packs have unequal numbers of labels, but always the same words.
        for item in (logits, targets):
            dynamo.maybe_mark_dynamic(item, 0)
        return measure(logits, targets)

    _compiled["attention"] = torch.compile(flex_attention, dynamic=False)
    _compiled["slopes"] = measured


def losses_and_slopes(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropies `(positions,)`, and their slopes by the logits in the logits' own type.

    Args:
        logits: `(positions, words)`.
        targets: `(positions,)`.
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total = exact.logsumexp(-1, keepdim=True)
    losses = (total - exact.gather(1, targets[:, None])).squeeze(1)
    words = torch.arange(logits.shape[1], device=logits.device)
    slopes = (exact - total).exp() - (words == targets[:, None]).to(exact.dtype)
    return losses, slopes.to(logits.dtype)


class HeadLosses(torch.autograd.Function):
    """Cross-entropy of positions behind a frozen head, with logits of a few positions at a time.

    As in Liger Kernel's fused linear cross-entropy (arXiv:2410.10989) slopes are computed with the losses, so that logits
    are made once and never kept. They are kept by position here, whose loss depends on no other: losses may be weighted and
    put together as an objective likes, which that kernel cannot.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        """Losses `(positions,)`.

        Args:
            ctx: Of autograd.
            hidden: `(positions, width)`.
            weight: Of the head, `(words, width)`.
            bias: Of the head, `(words,)`, or None.
            targets: `(positions,)`.
        """
        measure = _compiled.get("slopes", losses_and_slopes)
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        losses = hidden.new_empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        for start in range(0, len(hidden), _CHUNK):
            part = slice(start, start + _CHUNK)
            losses[part], by_logits = measure(linear(hidden[part], weight, bias), targets[part])
            if slopes is not None:
                slopes[part] = by_logits @ weight
        ctx.save_for_backward(slopes)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_losses: Tensor) -> Any:
        """Slopes by the hidden states alone."""
        (slopes,) = ctx.saved_tensors
        return by_losses[:, None].to(slopes.dtype) * slopes, None, None, None
