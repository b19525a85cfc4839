"""A chat model of transformers, and LoRA adapters that share its weights."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList

from ..data.ids import derived_seed
from ..data.resources import find
from ..prompting.chat import Messages, Sampling
from .adapted_language import AdaptedLanguageModel
from .causal_model import adapter_key, add_adapter, load_causal_model, read_tokenizer, with_adapter
from .chat_template import encode_conversations
from .choosing import first_tokens, likelihoods
from .closed_vocabulary import ClosedVocabulary, OnlyWords
from .quantization import Quantizable, Quantization, check_arguments
from .refiner_folder import CLOSED, read_words
from .sampling import processors


class TransformersLanguageModel(Quantizable):
    """Answers conversations in batches; each answer has its own seed."""

    def __init__(
        self,
        checkpoint: str,
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        batch_size: int = 16,
        adapter: str = "",
        quantization: Quantization = "none",
    ) -> None:
        """Remembers the arguments; weights are loaded on first use.

        Args:
            checkpoint: Name in the checkpoint manifest, folder, or hub id.
            dtype: Type of the weights; `auto` is bfloat16 on a GPU and float32 elsewhere.
            batch_size: Rows per generation; a row is one answer.
            adapter: PEFT folder that is merged into the weights, empty for none. Adapters that share one base are made
                by `adapted`.
            quantization: `nf4` holds the linear layers in 4 bits, `int8` in 8 with one row per generation; needs bitsandbytes.

        Raises:
            UserError: If bitsandbytes is missing, or does not go together with the other arguments.
        """
        check_arguments(quantization, batch_size, adapter)
        self.quantization = quantization
        self.name, self.dtype, self.batch_size, self.adapter = checkpoint, dtype, batch_size, adapter
        self.model: Any = None
        self.tokenizer: Any = None
        self._peft: Any = None
        self._active = ""
        self._closed: dict[str, ClosedVocabulary | None] = {}

    def load(self) -> None:
        """Loads tokenizer, model and adapter, once."""
        if self.model is not None:
            return
        model, self.tokenizer = load_causal_model(self.name, self.dtype, self.quantization, self._where_to_load())
        if self.adapter:
            model = with_adapter(model, self.adapter, "merged").merge_and_unload()
        self.model = model.eval()

    def adapted(self, adapter: str, alone: bool = False) -> AdaptedLanguageModel:
        """This model with an adapter on it; weights are shared.

        Args:
            adapter: PEFT folder.
            alone: Whether nobody will ask the model without this adapter; it is merged then, into weights that are not quantized.
        """
        if alone and self.quantization == "none":
            self.adapter = adapter
        return AdaptedLanguageModel(self, adapter)

    def switch(self, adapter: str) -> None:
        """Makes the next answers those of an adapter (a PEFT folder), or of the base alone (empty)."""
        wanted = "" if adapter == self.adapter else adapter
        if wanted == self._active:
            return
        self.load()
        if wanted:
            self._add(wanted)
            self._peft.base_model.enable_adapter_layers()
            self._peft.set_adapter(adapter_key(wanted))
        else:
            self._peft.base_model.disable_adapter_layers()
        self._active = wanted

    def _add(self, adapter: str) -> None:
        """Reads an adapter from disk, once."""
        key = adapter_key(adapter)
        if self._peft is None:
            self._peft = with_adapter(self.model, adapter, key)
        elif key not in self._peft.peft_config:
            add_adapter(self._peft, adapter, key)
        self.model.eval()

    def complete(
        self, conversations: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, count: int = 1
    ) -> list[list[str]]:
        """`count` answers per conversation of the base alone; see `base.LanguageModel`."""
        self.switch("")
        return self.answer(conversations, seeds, sampling, count)

    def answer(
        self, conversations: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, count: int = 1
    ) -> list[list[str]]:
        """As `complete`, with whatever adapter was switched on."""
        self.load()
        ids = encode_conversations(self.tokenizer, conversations, add_generation_prompt=True)
        answers: list[list[str]] = [[] for _ in ids]
        for chosen in self._batches(ids, count):
            found = self._generate([ids[i] for i in chosen], [seeds[i] for i in chosen], sampling, count)
            for index, group in zip(chosen, found, strict=True):
                answers[index] = group
        return answers

    def choose(
        self, conversations: Sequence[Messages], openings: Sequence[str], choices: Sequence[str]
    ) -> NDArray[np.float64]:
        """Probabilities of how answers of the base alone go on; see `base.LanguageModel`."""
        self.switch("")
        return self.likelihoods(conversations, openings, choices)

    def likelihoods(
        self, conversations: Sequence[Messages], openings: Sequence[str], choices: Sequence[str]
    ) -> NDArray[np.float64]:
        """As `choose`, with whatever adapter was switched on."""
        self.load()
        starts = [first_tokens(self.tokenizer, self.name, opening, choices) for opening in openings]
        begun = [opening for opening, _ in starts]
        ids = encode_conversations(self.tokenizer, conversations, add_generation_prompt=True, openings=begun)
        found = np.zeros((len(ids), len(choices)))
        for chosen in self._batches(ids):
            tokens, mask = self._padded([ids[index] for index in chosen])
            with torch.inference_mode():
                logits = self.model(
                    input_ids=tokens, attention_mask=mask, position_ids=_positions(mask), logits_to_keep=1
                ).logits[:, -1]
            found[chosen] = likelihoods(logits, [starts[index][1] for index in chosen])
        return found

    def count_tokens(self, text: str) -> int:
        """Tokens of a text in a conversation, its template aside."""
        if self.tokenizer is None:
            # A quantized model would need its place on the device for that.
            self.tokenizer = read_tokenizer(self.name)
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def _batches(self, ids: Sequence[Sequence[int]], count: int = 1) -> Iterator[list[int]]:
        """Indices of conversations of like length: less padding, and the result does not depend on the grouping."""
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        per_batch = max(1, self.batch_size // count)
        for begin in range(0, len(order), per_batch):
            yield order[begin : begin + per_batch]

    def _padded(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Tokens and mask on the model's device, padded on the left."""
        inputs = self.tokenizer.pad({"input_ids": list(ids)}, padding_side="left", return_tensors="pt")
        inputs = inputs.to(self.model.device)
        return inputs["input_ids"], inputs["attention_mask"]

    @torch.inference_mode()
    def _generate(
        self, conversations: list[list[int]], seeds: list[int], sampling: Sampling, count: int
    ) -> list[list[str]]:
        ids, mask = self._padded(conversations)
        row_seeds = [derived_seed(seed, number) for seed in seeds for number in range(count)]
        output = self.model.generate(
            input_ids=ids.repeat_interleave(count, 0),
            attention_mask=mask.repeat_interleave(count, 0),
            **{self._cache_name: self._prefill(ids, mask, count)},
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            logits_processor=LogitsProcessorList(
                [
                    *self._only_words(ids.shape[1]),
                    *processors(sampling, torch.tensor(row_seeds, device=ids.device), ids.shape[1]),
                ]
            ),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        decoded = self.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        cleaned = [text.strip() for text in decoded]
        return [cleaned[begin : begin + count] for begin in range(0, len(cleaned), count)]

    def _only_words(self, prompt_length: int) -> list[OnlyWords]:
        """What keeps the answers of a refiner with a closed vocabulary to its words."""
        adapter = self._active or self.adapter
        if adapter not in self._closed:
            folder = find(adapter) if adapter else None
            known = read_words(folder / CLOSED) if folder else frozenset()
            self._closed[adapter] = ClosedVocabulary(known, self.tokenizer) if known else None
        found = self._closed[adapter]
        return [OnlyWords(found, prompt_length)] if found else []

    @property
    def _cache_name(self) -> str:
        """What this release of transformers calls the keys and values of earlier tokens."""
        return "cache" if "cache" in inspect.signature(type(self.model).forward).parameters else "past_key_values"

    def _prefill(self, ids: Tensor, mask: Tensor, count: int) -> DynamicCache:
        """Reads each conversation once and lets its `count` answers share it; the last token is left to `generate`."""
        output = self.model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=_positions(mask)[:, :-1],
            use_cache=True,
            logits_to_keep=1,
        )
        cache: DynamicCache = output[self._cache_name]
        if count > 1:
            cache.batch_repeat_interleave(count)
        return cache


def _positions(mask: Tensor) -> Tensor:
    """Place of each token in its conversation, padding aside."""
    return (mask.cumsum(-1) - 1).clamp(min=0)
