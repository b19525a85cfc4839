"""Pairs for the refiner: tokenized once, in an order that a seed and the epoch decide."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import lightning
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from rapo_lightning.errors import UserError

from .packs import Text, common_length, cost, lay_pack, pack_size
from .resumable import ResumableLoader
from .steps import PackedShares, PaddedShares, StepOrder, StepShares

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
        """A batch of examples, padded."""
        ...

    def texts(self, example: Tokens) -> list[Text]:
        """The sequences of an example with their labels, equally many of each."""
        ...

    def extras(self, examples: Sequence[Tokens]) -> Batch:
        """What a batch has beside tokens."""
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


class Examples:
    """Examples of a form, by the lists of indices that a forward pass takes."""

    def __init__(self, examples: Sequence[Tokens], form: Form) -> None:
        """Takes examples, at least one.

        Args:
            examples: Examples.
            form: What they are like.
        """
        self.examples, self.form = list(examples), form
        self.lengths = [form.length(item) for item in self.examples]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.examples)

    def __getitem__(self, indices: list[int]) -> list[Tokens]:
        """Examples by index; behind the last comes one that counts for nothing."""
        blank = [self.form.blank(self.examples[0])]
        return [(self.examples[index : index + 1] or blank)[0] for index in indices]

    def padded(self, step: Sequence[list[Tokens]]) -> list[Batch]:
        """The padded micro-batches of a step."""
        return [self.form.collate(part) for part in step]

    def texts(self) -> list[list[Text]]:
        """The sequences of each."""
        return [self.form.texts(item) for item in self.examples]

    def packed(self, step: Sequence[list[Tokens]], prefix: Sequence[int], size: int, pad: int) -> list[Batch]:
        """The packs of a step."""
        return [
            lay_pack([self.form.texts(item) for item in part], prefix, size, pad) | self.form.extras(part)
            for part in step
        ]


class PairDataModule(lightning.LightningDataModule):
    """An objective's batches; each is a list of what one device has of a step, a forward pass each.

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
        pack_tokens: int = 0,
    ) -> None:
        """Takes the examples, all of which fit.

        Args:
            training: Examples to train on.
            validation: Examples for the validation loss, may be empty.
            form: What both are like.
            batch_size: Examples per forward pass and device, where they are padded.
            step: Training examples per optimizer step on all devices.
            seed: Seed of the order.
            preferences: Examples for the preference accuracy, a second validation loader; may be empty.
            preference_form: What those are like.
            pack_tokens: Most tokens of a pack; 0 pads.
        """
        super().__init__()
        self.training, self.validation, self.form = list(training), list(validation), form
        self.preferences, self.preference_form = list(preferences), preference_form
        self.batch_size, self.step, self.seed, self.pack_tokens = batch_size, step, seed, pack_tokens
        self._layout: tuple[list[int], int] | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return -(-len(self.training) // self.step)

    @property
    def _world(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def layout(self) -> tuple[list[int], int]:
        """What all packs begin with, and their number of tokens; one for training and validation, so that nothing recompiles.

        Raises:
            UserError: If an example does not fit into a pack.
        """
        if self._layout is None:
            rooms = [Examples(self.training, self.form), Examples(self.validation, self.form)]
            if self.preference_form is not None:
                rooms.append(Examples(self.preferences, self.preference_form))
            texts = [room.texts() for room in rooms]
            every = [ids for found in texts for example in found for ids, _ in example]
            prefix = every[0][: common_length(every)]
            costs = [[cost(example, len(prefix)) for example in found] for found in texts]
            least = len(prefix) + max(max(found, default=0) for found in costs)
            if least > self.pack_tokens:
                raise UserError(
                    f"`stage3.optimizer.pack_tokens` must hold the longest pair. Got {self.pack_tokens} for one of {least} "
                    "tokens; raise it, or lower `stage3.max_length`."
                )
            order = list(StepOrder(rooms[0].lengths, self.step, self.seed))
            taken = [costs[0][index] for index in order]
            steps = [taken[start : start + self.step] for start in range(0, len(taken), self.step)]
            self._layout = prefix, pack_size(steps, len(prefix), least, self.pack_tokens, self._world)
        return self._layout

    def _loader(self, examples: list[Tokens], form: Form, shuffle: bool) -> DataLoader[Any]:
        world, rank = self._world, self.trainer.global_rank if self.trainer else 0
        dataset = Examples(examples, form)
        order = StepOrder(dataset.lengths, self.step * shuffle, self.seed)
        if not self.pack_tokens:
            padded: StepShares = PaddedShares(order, self.step, self.batch_size, world, rank)
            return ResumableLoader(dataset, padded, dataset.padded, world)
        prefix, size = self.layout()
        costs = [cost(texts, len(prefix)) for texts in dataset.texts()]
        packed = PackedShares(order, self.step, costs, size - len(prefix), world, rank)
        pad: int = self.form.tokenizer.pad_token_id  # type: ignore[attr-defined]
        laid = partial(dataset.packed, prefix=prefix, size=size, pad=pad)
        return ResumableLoader(dataset, packed, laid, world)

    def train_dataloader(self) -> DataLoader[Any]:
        """Training steps; Lightning tells the sampler the epoch."""
        return self._loader(self.training, self.form, shuffle=True)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Validation pairs, and behind them the preferences; none if there are no validation pairs."""
        if not self.validation:
            return []
        loaders = [self._loader(self.validation, self.form, shuffle=False)]
        if self.preferences and self.preference_form is not None:
            loaders.append(self._loader(self.preferences, self.preference_form, shuffle=False))
        return loaders
