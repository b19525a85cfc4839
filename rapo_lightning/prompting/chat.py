"""Conversations with a language model, and how it answers them."""

from __future__ import annotations

import math
from dataclasses import dataclass

Messages = list[dict[str, str]]
"""A conversation: `{"role": "system" | "user" | "assistant", "content": text}` in order."""


@dataclass
class Sampling:
    """How a language model samples."""

    temperature: float = 0.7
    """Softmax temperature (ours); 0 takes the likeliest token always."""
    top_p: float = 0.95
    """Share of the probability that is sampled from (ours)."""
    top_k: int = 50
    """Number of tokens that are sampled from (the transformers default)."""
    max_new_tokens: int = 128
    """Longest answer in tokens (the authors' stage-2 script)."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1 or self.top_k < 1 or self.max_new_tokens < 1:
            raise ValueError(
                "Sampling needs a finite temperature >= 0, 0 < top_p <= 1, top_k >= 1 and max_new_tokens >= 1. "
                f"Got temperature={self.temperature}, top_p={self.top_p}, top_k={self.top_k}, "
                f"max_new_tokens={self.max_new_tokens}."
            )
