"""Pairs for the refiner: tokenized once, in an order that a seed and the epoch decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from rapo_lightning.errors import UserError

from .resumable import ResumableLoader

IGNORED = -100
"""Label of tokens without loss."""
Tokens = dict[str, Any]
"""An example: token ids by name, and single figures."""
Batch = dict[str, Tensor]


class Form(Protocol):
    """What an objective's examples are like."""

    def length(self, example: Tokens) -> int:
        """The longest sequence of an example, in tokens."""
        ...

    def blank(self, example: Tokens) -> Tokens:
        """An example of the same form that counts for nothing."""
        ...

    def collate(self, examples: Sequence[Tokens]) -> Batch:
        """A batch of examples."""
        ...


def fitting(examples: Sequence[Tokens], form: Form, max_length: int, kind: str) -> list[Tokens]:
    """The examples that are short enough, with a warning for the others.

    Args:
        examples: Examples.
        form: What they are like.
        max_length: Longest one in tokens.
        kind: `training` or `validation`.

    Raises:
        UserError: If there are any and none fits.
    """
    kept = [example for example in examples if form.length(example) <= max_length]
    if examples and not kept:
        raise UserError(
            f"Fine-tuning needs a {kind} pair that fits. Got none of {len(examples)} within `stage3.max_length` "
            f"{max_length} tokens; raise it, or shorten `stage3.system`."
        )
    if len(kept) < len(examples):
        rank_zero_warn(f"{len(examples) - len(kept)} pairs exceed {max_length} tokens and are left out.")
    return kept


class StepOrder(Sampler[int]):
    """The order of an epoch, a function of the seed and of `set_epoch` alone; a step has the same pairs on any number of devices.

    Within a step pairs go by their length, the longest first: a step's loss does not depend on their order, micro-batches
    of alike lengths are padded least, and devices get alike ones. That the longest come first shows at once whether
    they fit into memory.
    """

    def __init__(self, lengths: Sequence[int], step: int, seed: int, world: int = 1, rank: int = 0) -> None:
        """Takes what the order is made of.

        Args:
            lengths: Of the examples, in tokens. Where `world` does not divide their number, the numbers behind them follow:
                those of examples that count for nothing.
            step: Examples of a step on all devices; 0 keeps them in the order that they have.
            seed: Seed of the order.
            world: Number of devices that deal them out among them.
            rank: Number of this one.
        """
        self.lengths, self.step, self.seed, self.world, self.rank = lengths, step, seed, world, rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch is next; Lightning and Accelerate do."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Indices of this device's examples."""
        order = list(range(len(self.lengths)))
        if self.step:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(len(order), generator=generator).tolist()
            steps = [order[start : start + self.step] for start in range(0, len(order), self.step)]
            order = [place for step in steps for place in sorted(step, key=lambda index: -self.lengths[index])]
        order += range(len(order), len(order) + -len(order) % self.world)
        return iter(order[self.rank :: self.world])

    def __len__(self) -> int:
        """Number of this device's examples."""
        return -(-len(self.lengths) // self.world)


class PairDataModule(lightning.LightningDataModule):
    """Batches of an objective.

    The order of an epoch is a function of seed and epoch, so a resumed run sees what an unbroken one would.
    """

    def __init__(
        self,
        training: Sequence[Tokens],
        validation: Sequence[Tokens],
        form: Form,
        batch_size: int,
        step: int,
        seed: int,
        preferences: Sequence[Tokens] = (),
        preference_form: Form | None = None,
    ) -> None:
        """Takes the examples, all of which fit.

        Args:
            training: Examples to train on.
            validation: Examples for the validation loss, may be empty.
            form: What both are like.
            batch_size: Examples per batch and device.
            step: Training examples per optimizer step on all devices.
            seed: Seed of the order.
            preferences: Examples for the preference accuracy, a second validation loader; may be empty.
            preference_form: What those are like.
        """
        super().__init__()
        self.training, self.validation, self.form = list(training), list(validation), form
        self.preferences, self.preference_form = list(preferences), preference_form
        self.batch_size, self.step, self.seed = batch_size, step, seed

    def steps(self, accumulation: int, world: int) -> int:
        """Optimizer steps of an epoch.

        Args:
            accumulation: Batches per step and device.
            world: Number of devices.
        """
        batches = math.ceil(math.ceil(len(self.training) / world) / self.batch_size)
        return math.ceil(batches / accumulation)

    def _loader(self, examples: list[Tokens], form: Form, shuffle: bool) -> DataLoader[Tokens]:
        world = self.trainer.world_size if self.trainer else 1
        rank = self.trainer.global_rank if self.trainer else 0
        order = StepOrder([form.length(item) for item in examples], self.step * shuffle, self.seed, world, rank)
        # Devices need equal numbers of batches; what fills up counts for nothing, so that no pair counts twice.
        filled = examples + [form.blank(examples[0])] * (-len(examples) % world)
        return ResumableLoader(filled, order, self.batch_size, form.collate, world)

    def train_dataloader(self) -> DataLoader[Tokens]:
        """Training batches; Lightning tells the sampler the epoch."""
        return self._loader(self.training, self.form, shuffle=True)

    def val_dataloader(self) -> list[DataLoader[Tokens]]:
        """Validation batches, and behind them those of the preferences; none if there are no validation pairs."""
        if not self.validation:
            return []
        loaders = [self._loader(self.validation, self.form, shuffle=False)]
        if self.preferences and self.preference_form is not None:
            loaders.append(self._loader(self.preferences, self.preference_form, shuffle=False))
        return loaders
