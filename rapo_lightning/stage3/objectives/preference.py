"""Objectives on preferred and rejected rounds of the same request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch.nn.functional import logsigmoid

from datamodules.packs import IGNORED, Text
from datamodules.pairs import Batch, Tokens

from ...models.chat_template import encode_pairs
from .base import Engine, Loss, Objective

REFERENCE = "ref"
"""Name of the frozen adapter that a preference objective compares with, where it does not begin with a fresh one; TRL
gives it the same."""


def encode_preferences(tokenizer: Any, rows: Sequence[Mapping[str, Any]]) -> list[Tokens]:
    """`prompt_ids`, `chosen_ids` and `rejected_ids` of each row of the view `preference`."""
    prompts = [row["prompt"] for row in rows]
    chosen = encode_pairs(tokenizer, prompts, [row["chosen"] for row in rows])
    rejected = encode_pairs(tokenizer, prompts, [row["rejected"] for row in rows])
    return [
        {"prompt_ids": head, "chosen_ids": better, "rejected_ids": worse}
        for (head, better), (_, worse) in zip(chosen, rejected, strict=True)
    ]


class Preferences(Objective):
    """What objectives on the view `preference` share; a batch or pack has the chosen sequences before the rejected ones."""

    view: ClassVar[Literal["sft", "preference", "unpaired", "requests"]] = "preference"
    wants: ClassVar[str] = "requests with a round that the filters keep and a worse one"

    def examples(self, rows: Sequence[Mapping[str, Any]], training: bool) -> list[Tokens]:
        """`prompt_ids`, `chosen_ids` and `rejected_ids` of each row."""
        return encode_preferences(self.tokenizer, rows)

    def length(self, example: Tokens) -> int:
        """Tokens of the longer of both sequences."""
        return len(example["prompt_ids"]) + max(len(example["chosen_ids"]), len(example["rejected_ids"]))

    def blank(self, example: Tokens) -> Tokens:
        """The request without answers."""
        return {**example, "chosen_ids": [], "rejected_ids": []}

    def collate(self, examples: Sequence[Tokens]) -> Batch:
        """`input_ids`, `attention_mask` and `completion_mask`, each `(2 * pairs, length)`."""
        heads = [example["prompt_ids"] for example in examples]
        answers = [example[side] for side in ("chosen_ids", "rejected_ids") for example in examples]
        return self.sequences([*heads, *heads], answers)

    def texts(self, example: Tokens) -> list[Text]:
        """The request with the chosen answer, and with the rejected one."""
        head: list[int] = example["prompt_ids"]
        answers = [example["chosen_ids"], example["rejected_ids"]]
        return [(head + answer, [IGNORED] * len(head) + answer) for answer in answers]


class PreferenceAccuracy(Preferences):
    """Not trained: how often the chosen text is likelier per token than the rejected one, on held-out requests."""

    name: ClassVar[str] = "preference"
    engines: ClassVar[tuple[Engine, ...]] = ()

    def loss(self, model: Any, batch: Batch) -> Loss:
        """The share `preference`; there is no loss."""
        losses, counts = self.likelihoods(model, batch)
        chosen, rejected = (-losses / counts.clamp(min=1)).chunk(2)
        counted = counts.chunk(2)[0] > 0
        nothing = losses.new_zeros(())
        return Loss(nothing, nothing, {"preference": (((chosen > rejected) & counted).sum(), counted.sum())})


class Dpo(Preferences):
    """Direct preference optimization (arXiv:2305.18290), a mean over the pairs of a step.

    The reference is the model as the training finds it: the base, or the adapter that supervised fine-tuning left.
    """

    name: ClassVar[str] = "dpo"
    engines: ClassVar[tuple[Engine, ...]] = ("lightning", "trl")
    dropout: ClassVar[bool] = False

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Sum over the pairs, their number, and the share `preference` whose chosen text gained more on the reference."""
        with torch.no_grad(), reference(model):
            before, counts = self.likelihoods(model, batch)
        chosen, rejected = (before - self.likelihoods(model, batch)[0]).chunk(2)
        counted = counts.chunk(2)[0] > 0
        losses = -logsigmoid(self.stage3.dpo.beta * (chosen - rejected))
        preferred = ((chosen > rejected) & counted).sum()
        return Loss((losses * counted).sum(), counted.sum(), {"preference": (preferred, counted.sum())})


@contextmanager
def reference(model: Any) -> Iterator[None]:
    """The model as it was before the training.

    Args:
        model: A PEFT model; its reference is the adapter `REFERENCE` if it has one, else the base.
    """
    if REFERENCE not in model.peft_config:
        with model.disable_adapter():
            yield
        return
    model.set_adapter(REFERENCE)
    try:
        yield
    finally:
        # This also marks the one as trained and the other as frozen again.
        model.set_adapter("default")
