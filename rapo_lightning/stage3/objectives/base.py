"""What an objective is: which view of the pairs it learns from, as which tokens, and by which loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from datamodules.packs import IGNORED, Text
from datamodules.pairs import Batch, Tokens

from ...recipe import Recipe, Stage3
from .likelihood import token_losses
from .packed import sequence_losses

Engine = Literal["lightning", "trl"]


@dataclass(frozen=True)
class Loss:
    """The loss of a micro-batch, as sums, so that it can be averaged over any number of them and of devices.

    Attributes:
        total: Sum over what is counted, with its gradient.
        count: How much that is: completion tokens, or pairs.
        shares: Further figures by name, each a sum and the number it is a sum of.
    """

    total: Tensor
    count: Tensor
    shares: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


class Objective(ABC):
    """An objective; made anew for each training.

    Batches have the names that TRL's trainers take, so that both engines get the same ones.
    """

    name: ClassVar[str]
    view: ClassVar[Literal["sft", "preference", "unpaired", "requests"]]
    """The view of the pairs that it learns from; see `pairs.PairViews`."""
    engines: ClassVar[tuple[Engine, ...]]
    """What can train it, the default first."""
    wants: ClassVar[str]
    """The data it needs, in a few words, for help and errors."""
    monitor: ClassVar[tuple[str, Literal["min", "max"]] | None] = None
    """What chooses the best epoch, and whether less or more of it is better; None takes `stage3.best_by`."""
    knows_preferences: ClassVar[bool] = True
    """Whether the share of held-out preferences is measured while it trains."""
    dropout: ClassVar[bool] = True
    """Whether the adapter's dropout is on. Losses that compare with a reference switch it off, as TRL does: it would be noise
    on the difference."""

    def __init__(self, stage3: Stage3, tokenizer: Any) -> None:
        """Takes what the tokens and the loss depend on.

        Args:
            stage3: The recipe's settings.
            tokenizer: A chat tokenizer.
        """
        self.stage3, self.tokenizer = stage3, tokenizer

    @classmethod
    def check(cls, stage3: Stage3, rows: Sequence[Mapping[str, Any]]) -> None:
        """Looks whether settings and data suit the objective; no model is loaded.

        Args:
            stage3: The recipe's settings.
            rows: Rows of the view that are trained on, at least one.

        Raises:
            UserError: If they do not.
        """
        return

    @classmethod
    def made_of(cls, recipe: Recipe) -> Any:
        """What a training by it depends on beside stage 3, the base model and the pairs."""
        return None

    @abstractmethod
    def examples(self, rows: Sequence[Mapping[str, Any]], training: bool) -> list[Tokens]:
        """Tokens of rows of the view.

        Args:
            rows: Rows, as `pairs.views` describes them.
            training: Whether they are trained on, or validate.
        """

    @abstractmethod
    def length(self, example: Tokens) -> int:
        """The longest sequence of an example, in tokens."""

    @abstractmethod
    def blank(self, example: Tokens) -> Tokens:
        """An example of the same form that counts for nothing; it fills up the shares of several devices."""

    @abstractmethod
    def collate(self, examples: Sequence[Tokens]) -> Batch:
        """A batch of examples, padded on the right."""

    def texts(self, example: Tokens) -> list[Text]:
        """The sequences of an example with their labels; only what the engine `lightning` trains has any."""
        raise NotImplementedError(f"{self.name} is trained by TRL, which pads.")

    def extras(self, examples: Sequence[Tokens]) -> Batch:
        """What a batch has beside tokens."""
        return {}

    def loss(self, model: Any, batch: Batch) -> Loss:
        """The loss of a batch; only what the engine `lightning` trains has one of its own.

        Args:
            model: The PEFT model, or what wraps it.
            batch: From `collate`.
        """
        raise NotImplementedError(f"{self.name} is trained by TRL, which computes its loss.")

    def likelihoods(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of the labels of each sequence, and their number, both `(sequences,)`.

        Args:
            model: The PEFT model, or what wraps it.
            batch: From `collate`, or a pack.
        """
        if "until" in batch:
            return sequence_losses(model, batch), batch["counts"]
        labels = labels_of(batch)
        losses = token_losses(model, batch, labels, share=not self.stage3.gradient_checkpointing)
        return losses.sum(1), (labels[:, 1:] != IGNORED).sum(1)

    def padded(self, rows: Sequence[Sequence[int]], kind: Literal["ids", "labels", "mask"] = "ids") -> Tensor:
        """Rows of unequal length as a tensor `(rows, length)`, filled up on the right.

        Args:
            rows: Token ids, labels or 0 and 1.
            kind: What they are, and so what they are filled up with.
        """
        fill = {"ids": self.tokenizer.pad_token_id, "labels": IGNORED, "mask": 0}[kind]
        return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True, padding_value=fill)

    def sequences(self, heads: Sequence[list[int]], answers: Sequence[list[int]]) -> Batch:
        """`input_ids`, `attention_mask` and `completion_mask`, each `(sequences, length)`.

        Args:
            heads: Token ids of each conversation up to the answer.
            answers: Token ids of each answer.
        """
        both = list(zip(heads, answers, strict=True))
        return {
            "input_ids": self.padded([head + answer for head, answer in both]),
            "attention_mask": self.padded([[1] * (len(head) + len(answer)) for head, answer in both], "mask"),
            "completion_mask": self.padded([[0] * len(head) + [1] * len(answer) for head, answer in both], "mask"),
        }


def labels_of(batch: Batch) -> Tensor:
    """Labels of a padded batch `(sequences, length)`: those it has, or the completions' tokens."""
    if "labels" in batch:
        return batch["labels"]
    return batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
