"""Supervised fine-tuning on the kept rounds, each alike or by what it gained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, ClassVar, Literal

import torch

from datamodules.packs import IGNORED, Text
from datamodules.pairs import Batch, Tokens

from ...errors import UserError
from ...models.chat_template import encode_pairs
from ...recipe import Stage3
from .base import Engine, Loss, Objective

_MOST = 20.0
"""Largest weight of a pair before they are scaled (Peng et al., 2019, advantage-weighted regression)."""


class Sft(Objective):
    """Cross-entropy of the completion's tokens: a mean over the tokens of a step (RAPO++; the rule of TRL's trainer)."""

    name: ClassVar[str] = "sft"
    view: ClassVar[Literal["sft", "preference", "unpaired", "requests"]] = "sft"
    engines: ClassVar[tuple[Engine, ...]] = ("lightning", "trl")
    wants: ClassVar[str] = "the rounds that the filters keep"

    def examples(self, rows: Sequence[Mapping[str, Any]], training: bool) -> list[Tokens]:
        """`input_ids` and `labels` of each row."""
        encoded = encode_pairs(self.tokenizer, [row["prompt"] for row in rows], [row["completion"] for row in rows])
        return [{"input_ids": head + answer, "labels": [IGNORED] * len(head) + answer} for head, answer in encoded]

    def length(self, example: Tokens) -> int:
        """Tokens of the pair."""
        return len(example["input_ids"])

    def blank(self, example: Tokens) -> Tokens:
        """The pair without labels."""
        return {**example, "labels": [IGNORED] * len(example["labels"])}

    def collate(self, examples: Sequence[Tokens]) -> Batch:
        """`input_ids`, `attention_mask` and `labels`, each `(pairs, length)`."""
        ids = [example["input_ids"] for example in examples]
        return {
            "input_ids": self.padded(ids),
            "attention_mask": self.padded([[1] * len(row) for row in ids], "mask"),
            "labels": self.padded([example["labels"] for example in examples], "labels"),
        }

    def texts(self, example: Tokens) -> list[Text]:
        """The pair."""
        return [(example["input_ids"], example["labels"])]

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Sum over the completions' tokens, and their number."""
        losses, counts = self.likelihoods(model, batch)
        return Loss(losses.sum(), counts.sum())


class WeightedSft(Sft):
    """Supervised fine-tuning in which a pair counts by exp(score gap / temperature), as in advantage-weighted regression.

    Weights are cut off at 20 as there, and scaled so that their mean over the tokens that are trained on is 1: the rate means
    what it means for `sft`, and a validation loss, which is without weights, can be compared.
    """

    name: ClassVar[str] = "weighted_sft"
    wants: ClassVar[str] = "the rounds that the filters keep, with scores of them and of round 0"

    @classmethod
    def check(cls, stage3: Stage3, rows: Sequence[Mapping[str, Any]]) -> None:
        """Looks whether there is anything to weigh by.

        Raises:
            UserError: If no row has a score gap.
        """
        if all(row["score_gap"] is None for row in rows):
            raise UserError(
                "`stage3.objective: weighted_sft` weighs pairs by their score gap. Got none in the pairs; train with `sft`, or "
                "let `collect` score them."
            )

    def examples(self, rows: Sequence[Mapping[str, Any]], training: bool) -> list[Tokens]:
        """`input_ids`, `labels` and, of what is trained on, `weight`."""
        examples = super().examples(rows, training)
        if not training:
            return examples
        weights = pair_weights(
            [row["score_gap"] for row in rows],
            [sum(label != IGNORED for label in example["labels"]) for example in examples],
            self.stage3.weighted_sft.temperature,
        )
        return [{**example, "weight": weight} for example, weight in zip(examples, weights, strict=True)]

    def collate(self, examples: Sequence[Tokens]) -> Batch:
        """That of `sft`, and `extras`."""
        return super().collate(examples) | self.extras(examples)

    def extras(self, examples: Sequence[Tokens]) -> Batch:
        """Of what is trained on, `weights` `(pairs,)`."""
        weights = [example["weight"] for example in examples if "weight" in example]
        return {"weights": torch.tensor(weights, dtype=torch.float32)} if weights else {}

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Weighted sum over the completions' tokens, and their number."""
        losses, counts = self.likelihoods(model, batch)
        return Loss((losses * batch["weights"] if "weights" in batch else losses).sum(), counts.sum())


def pair_weights(gaps: Sequence[float | None], tokens: Sequence[int], temperature: float) -> list[float]:
    """Weights of pairs, whose mean over the tokens is 1.

    Args:
        gaps: Mean score of each pair's round minus that of round 0, at least one of them; None where nothing scored both,
            which counts as the median of the others.
        tokens: Completion tokens of each pair.
        temperature: Gap that makes a pair count e times as much.
    """
    middle = median(gap for gap in gaps if gap is not None)
    powers = [min((middle if gap is None else gap) / temperature, math.log(_MOST)) for gap in gaps]
    # Divided by the largest, which the mean takes out again: neither overflows, nor is all of it nothing.
    raw = [math.exp(power - max(powers)) for power in powers]
    mean = sum(weight * count for weight, count in zip(raw, tokens, strict=True)) / max(sum(tokens), 1)
    return [weight / mean for weight in raw]
