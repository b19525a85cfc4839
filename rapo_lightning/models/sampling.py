"""Sampling with a seed per row, so that an answer does not depend on what else is in the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..prompting.chat import Sampling

_MULTIPLIERS = (0x5851F42D4C957F2D, 0x14057B7EF767814F)


def _mix(value: Tensor) -> Tensor:
    """A 64-bit integer hash (multiply and xor-shift rounds); wraps around silently, as intended."""
    for multiplier in _MULTIPLIERS:
        value = (value ^ ((value >> 31) & 0x1FFFFFFFF)) * multiplier
    return value ^ ((value >> 29) & 0x7FFFFFFFF)


def row_uniform(seeds: Tensor, step: int, tokens: Tensor) -> Tensor:
    """Uniform numbers in (0, 1) that are a function of (seed, step, token) alone.

    Args:
        seeds: One per row, `(rows,)`, int64.
        step: Position of the generated token.
        tokens: Token ids, `(rows, candidates)`, int64.
    """
    mixed = _mix(_mix(seeds[:, None] * 1_000_003 + step) + tokens)
    return (((mixed >> 11) & 0xFFFFFFFFFF).double() + 0.5) / float(1 << 40)


class SeededGumbel(LogitsProcessor):
    """Adds Gumbel noise from `row_uniform` to the likeliest tokens; the arg max of that is a sample of the softmax.

    `transformers` samples a whole batch from one generator, so its answers change with the batch. With this processor
    and greedy decoding they do not, which is what makes resumed and distributed runs repeat an unbroken one.
    """

    def __init__(self, seeds: Tensor, prompt_length: int, top_k: int) -> None:
        """Remembers the rows' seeds and where the answer begins."""
        self.seeds, self.prompt_length, self.top_k = seeds, prompt_length, top_k

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Perturbs `scores` (`(rows, vocabulary)`); tokens outside the top k become impossible."""
        values, tokens = scores.float().topk(min(self.top_k, scores.shape[-1]), dim=-1)
        uniform = row_uniform(self.seeds, input_ids.shape[1] - self.prompt_length, tokens)
        noisy = values.double() - torch.log(-torch.log(uniform))
        return torch.full_like(scores, -torch.inf).scatter(-1, tokens, noisy.to(scores.dtype))


def processors(sampling: Sampling, seeds: Tensor, prompt_length: int) -> LogitsProcessorList:
    """The processors that turn greedy decoding into seeded sampling; none for temperature 0."""
    if sampling.temperature == 0:
        return LogitsProcessorList()
    chain = [
        TemperatureLogitsWarper(sampling.temperature),
        TopKLogitsWarper(sampling.top_k),
        TopPLogitsWarper(sampling.top_p),
        SeededGumbel(seeds, prompt_length, sampling.top_k),
    ]
    return LogitsProcessorList(chain)
