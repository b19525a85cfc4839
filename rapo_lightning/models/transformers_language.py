"""A chat model of transformers, with or without a LoRA adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ..checkpoints import locate
from ..ids import derived_seed
from ..recipe import Sampling
from .protocols import Messages
from .sampling import processors

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TransformersLanguageModel:
    """Answers conversations in batches; each answer has its own seed."""

    def __init__(
        self,
        checkpoint: str,
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        batch_size: int = 16,
        adapter: str = "",
    ) -> None:
        """Remembers the arguments; weights are loaded on first use.

        Args:
            checkpoint: Name in the checkpoint manifest, folder, or hub id.
            dtype: Type of the weights; `auto` is bfloat16 on a GPU and float32 elsewhere.
            batch_size: Rows per generation; a row is one answer.
            adapter: PEFT folder to put on top, empty for none.
        """
        self.name, self.dtype, self.batch_size, self.adapter = checkpoint, dtype, batch_size, adapter
        self.model: Any = None
        self.tokenizer: Any = None

    def load(self) -> None:
        """Loads tokenizer, model and adapter, once."""
        if self.model is not None:
            return
        self.model, self.tokenizer = load_causal_model(self.name, self.dtype)
        if self.adapter:
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, Path(self.adapter)).merge_and_unload()
        self.model.eval()

    def to(self, device: torch.device) -> None:
        """Loads if needed and moves to `device`."""
        self.load()
        self.model.to(device)

    def complete(
        self, conversations: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, count: int = 1
    ) -> list[list[str]]:
        """`count` answers per conversation; see `protocols.LanguageModel`."""
        self.load()
        rows = [
            (text, derived_seed(seed, number))
            for text, seed in zip(self._render(conversations), seeds, strict=True)
            for number in range(count)
        ]
        # Rows of like length share a batch: less padding, and the result does not depend on the grouping.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
        answers = [""] * len(rows)
        for begin in range(0, len(order), self.batch_size):
            chosen = order[begin : begin + self.batch_size]
            for index, answer in zip(chosen, self._generate([rows[i] for i in chosen], sampling), strict=True):
                answers[index] = answer
        return [answers[begin : begin + count] for begin in range(0, len(rows), count)]

    def _render(self, conversations: Sequence[Messages]) -> list[str]:
        return [
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            for messages in conversations
        ]

    @torch.inference_mode()
    def _generate(self, rows: Sequence[tuple[str, int]], sampling: Sampling) -> list[str]:
        device = self.model.device
        inputs = self.tokenizer(
            [text for text, _ in rows], return_tensors="pt", padding=True, add_special_tokens=False
        ).to(device)
        length = inputs["input_ids"].shape[1]
        seeds = torch.tensor([seed for _, seed in rows], device=device)
        output = self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            logits_processor=processors(sampling, seeds, length),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        texts: list[str] = self.tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
        return [text.strip() for text in texts]


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
    model = AutoModelForCausalLM.from_pretrained(path, dtype=weights)
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # A checkpoint's own sampling defaults would only add warnings: decoding is greedy over perturbed scores.
    generation = model.generation_config
    generation.do_sample, generation.temperature, generation.top_p, generation.top_k = False, None, None, None
    return model, tokenizer
