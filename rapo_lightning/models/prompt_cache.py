"""What a pipeline's text encoders make of a prompt, kept, so that each text is read once."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_PAIR = ("prompt_embeds",)
_MASKED = ("prompt_embeds", "prompt_attention_mask")
_ENCODINGS: dict[str, tuple[str, ...]] = {
    "WanPipeline": _PAIR,
    "CogVideoXPipeline": _PAIR,
    "LTXPipeline": _MASKED,
    "MochiPipeline": _MASKED,
    "HunyuanVideoPipeline": ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask"),
}
"""What `encode_prompt` of a pipeline of diffusers returns first, by the names that its call takes. Others, such as Latte, whose
encodings are as long as their prompt, read their prompts in the call itself."""
_OPTIONAL_NEGATIVE = ("HunyuanVideoPipeline",)
"""Pipelines that are guided by a negative prompt only where one is named; for the others it is empty by default."""
_SECOND = {"prompt_2", "negative_prompt_2"}
_LEAST = 8
_KEPT = 256
"""Texts that are kept; one of Wan's is 4 MB (512 tokens, 4096 wide, bfloat16)."""


def filled_size(count: int, batch_size: int) -> int:
    """The number of videos that a call for `count` of them makes: 8, 16, 32, ..., at most `batch_size`.

    Filling up to `batch_size` whatever it is would make 128 videos for the last three; taking a call as it comes would make
    a video depend on how many prompts are left when a run is resumed or shared between processes.
    """
    return min(batch_size, max(_LEAST, 1 << (count - 1).bit_length()))


def read_apart(pipeline: str, call: Mapping[str, Any]) -> bool:
    """Whether prompts can be read apart from a pipeline's call.

    Args:
        pipeline: Its class name.
        call: Arguments of its call.
    """
    negative = call.get("negative_prompt")
    return pipeline in _ENCODINGS and (negative is None or isinstance(negative, str)) and not _SECOND & set(call)


class PromptCache:
    """Encodings of texts by one pipeline, on the CPU; the negative prompt is one of them."""

    def __init__(self, pipeline: Any, call: dict[str, Any]) -> None:
        """Takes what encodes.

        Args:
            pipeline: A pipeline whose prompts can be `read_apart`.
            call: Arguments of the pipeline's call; those that its `encode_prompt` takes as well go there.
        """
        self._encode = pipeline.encode_prompt
        self._names = _ENCODINGS[type(pipeline).__name__]
        known = set(inspect.signature(self._encode).parameters) - {"prompt", "negative_prompt"}
        self._options = {key: value for key, value in call.items() if key in known}
        if "do_classifier_free_guidance" in known:
            self._options["do_classifier_free_guidance"] = False
        default = None if type(pipeline).__name__ in _OPTIONAL_NEGATIVE else ""
        self.negative: str | None = call.get("negative_prompt", default)
        self._kept: dict[str, dict[str, Tensor]] = {}
        self._used: OrderedDict[str, None] = OrderedDict()

    def missing(self, prompts: Sequence[str]) -> list[str]:
        """Those of these texts, and of the negative prompt, that are not kept."""
        wanted = [*([] if self.negative is None else [self.negative]), *prompts]
        return [text for text in dict.fromkeys(wanted) if text not in self._kept]

    @torch.no_grad()
    def encode(self, texts: Sequence[str], device: torch.device, batch_size: int = 1) -> None:
        """Encodes texts and keeps what comes of them.

        Args:
            texts: The texts.
            device: Where the text encoders are.
            batch_size: Texts that are encoded together.
        """
        for begin in range(0, len(texts), batch_size):
            part = list(texts[begin : begin + batch_size])
            # As videos are: a kernel's rounding goes by the size of a batch, so that there are few.
            size = filled_size(len(part), batch_size)
            found = self._encode(prompt=part + [part[-1]] * (size - len(part)), device=device, **self._options)
            values = {name: value.cpu() for name, value in zip(self._names, found, strict=False)}
            for row, text in enumerate(part):
                self._kept[text] = {name: value[row : row + 1].clone() for name, value in values.items()}

    def arguments(self, prompts: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """Arguments of the pipeline's call in place of `prompt` and `negative_prompt`; all texts must have been encoded.

        Args:
            prompts: The prompts of a batch.
            device: Where the call works.
        """
        rows = [self._kept[text] for text in prompts]
        given = {name: torch.cat([row[name] for row in rows]) for name in self._names}
        if self.negative is not None:
            of_none = self._kept[self.negative]
            repeated = {name: torch.cat([of_none[name]] * len(prompts)) for name in self._names}
            given |= {f"negative_{name}": value for name, value in repeated.items()}
        self._forget(prompts)
        return {name: value.to(device) for name, value in given.items()}

    def _forget(self, used: Sequence[str]) -> None:
        """Lets the texts go that were used longest ago, beyond `_KEPT`; those that were not used yet stay."""
        for text in (*used, *([] if self.negative is None else [self.negative])):
            self._used[text] = None
            self._used.move_to_end(text)
        while len(self._used) > _KEPT:
            del self._kept[self._used.popitem(last=False)[0]]
