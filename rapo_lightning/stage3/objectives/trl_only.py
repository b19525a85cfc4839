"""Objectives whose loss TRL computes; their tokens are ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch

from datamodules.pairs import Batch, Tokens

from ...errors import UserError
from ...models.chat_template import encode_pairs
from ...recipe import Stage3
from .base import Engine, Objective
from .preference import Preferences


class Kto(Objective):
    """Kahneman-Tversky optimization (arXiv:2402.01306): single rounds that are good or bad."""

    name: ClassVar[str] = "kto"
    view: ClassVar[Literal["sft", "preference", "unpaired", "requests"]] = "unpaired"
    engines: ClassVar[tuple[Engine, ...]] = ("trl",)
    wants: ClassVar[str] = "rounds with scores, good and bad ones"
    dropout: ClassVar[bool] = False
    knows_preferences: ClassVar[bool] = False

    @classmethod
    def check(cls, stage3: Stage3, rows: Sequence[Mapping[str, Any]]) -> None:
        """Looks whether there are good and bad rounds, and several requests in a batch.

        Raises:
            UserError: If there are not, or the reference would be estimated on a request's own answer.
        """
        good = sum(row["label"] for row in rows)
        if good in (0, len(rows)):
            raise UserError(
                f"`stage3.objective: kto` learns from good and bad rounds. Got {good} good and {len(rows) - good} bad ones; "
                "change `stage3.views.good` and `bad`."
            )
        if stage3.optimizer.micro_batch_size < 2:
            raise UserError(
                "`stage3.objective: kto` estimates its reference on the other requests of a batch. Got "
                f"`stage3.optimizer.micro_batch_size` {stage3.optimizer.micro_batch_size}; raise it to 2 or more."
            )

    def examples(self, rows: Sequence[Mapping[str, Any]], training: bool) -> list[Tokens]:
        """`prompt_ids`, `completion_ids` and `label` of each row."""
        encoded = encode_pairs(self.tokenizer, [row["prompt"] for row in rows], [row["completion"] for row in rows])
        return [
            {"prompt_ids": head, "completion_ids": answer, "label": bool(row["label"])}
            for (head, answer), row in zip(encoded, rows, strict=True)
        ]

    def length(self, example: Tokens) -> int:
        """Tokens of the pair."""
        return len(example["prompt_ids"]) + len(example["completion_ids"])

    def blank(self, example: Tokens) -> Tokens:
        """The request without an answer; TRL's trainers fill up shares themselves."""
        return {**example, "completion_ids": []}

    def collate(self, examples: Sequence[Tokens]) -> Batch:
        """The names that `trl.KTOTrainer` takes, each `(pairs, length)`, and `label` `(pairs,)`.

        The term that holds the model near its reference is estimated on answers to other requests of the batch, each moved on
        by one (as in TRL, which does so before it shuffles).
        """
        heads = [example["prompt_ids"] for example in examples]
        answers = [example["completion_ids"] for example in examples]
        moved = self.sequences(heads, [answers[-1], *answers[:-1]])
        return {
            **self.sequences(heads, answers),
            **{f"KL_{name}": value for name, value in moved.items()},
            "label": torch.tensor([example["label"] for example in examples]),
        }


class Reward(Preferences):
    """A reward model on preferences (Bradley and Terry): a number for a conversation."""

    name: ClassVar[str] = "reward"
    engines: ClassVar[tuple[Engine, ...]] = ("trl",)

    def collate(self, examples: Sequence[Tokens]) -> Batch:
        """`input_ids` and `attention_mask`, each `(2 * pairs, length)`, the chosen sequences first."""
        batch = super().collate(examples)
        return {name: batch[name] for name in ("input_ids", "attention_mask")}
