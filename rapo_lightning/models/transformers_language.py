"""A chat model of transformers, with or without a LoRA adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedTokenizerBase

from ..checkpoints import locate
from ..data.ids import derived_seed
from ..prompting.chat import Messages, Sampling
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
        """`count` answers per conversation; see `base.LanguageModel`."""
        self.load()
        texts = self._render(conversations)
        # Conversations of like length share a batch: less padding, and the result does not depend on the grouping.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        answers: list[list[str]] = [[] for _ in texts]
        per_batch = max(1, self.batch_size // count)
        for begin in range(0, len(order), per_batch):
            chosen = order[begin : begin + per_batch]
            found = self._generate([texts[i] for i in chosen], [seeds[i] for i in chosen], sampling, count)
            for index, group in zip(chosen, found, strict=True):
                answers[index] = group
        return answers

    def _render(self, conversations: Sequence[Messages]) -> list[str]:
        return [
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            for messages in conversations
        ]

    @torch.inference_mode()
    def _generate(self, texts: list[str], seeds: list[int], sampling: Sampling, count: int) -> list[list[str]]:
        device = self.model.device
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(device)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        row_seeds = [derived_seed(seed, number) for seed in seeds for number in range(count)]
        output = self.model.generate(
            input_ids=ids.repeat_interleave(count, 0),
            attention_mask=mask.repeat_interleave(count, 0),
            past_key_values=self._prefill(ids, mask, count),
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            logits_processor=processors(sampling, torch.tensor(row_seeds, device=device), ids.shape[1]),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        decoded = self.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        cleaned = [text.strip() for text in decoded]
        return [cleaned[begin : begin + count] for begin in range(0, len(cleaned), count)]

    def _prefill(self, ids: Tensor, mask: Tensor, count: int) -> DynamicCache:
        """Reads each conversation once and lets its `count` answers share it; the last token is left to `generate`."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = self.model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, :-1],
            use_cache=True,
            logits_to_keep=1,
        ).past_key_values
        if count > 1:
            cache.batch_repeat_interleave(count)
        return cache


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
