"""The order of an epoch's examples, and how those of a step are shared out to devices and forward passes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from .packs import best_fit

Share = list[list[int]]
"""A device's share of a step: the indices of each forward pass."""


class StepOrder(Sampler[int]):
    """The order of an epoch, a function of the seed and of `set_epoch` alone; a step has the same pairs on any number of devices.

    Within a step pairs go by their length, the longest first: a step's loss does not depend on their order, micro-batches
    of alike lengths are padded least, and devices get alike ones. That the longest come first shows at once whether
    they fit into memory.
    """

    def __init__(self, lengths: Sequence[int], step: int, seed: int) -> None:
        """Takes what the order is made of.

        Args:
            lengths: Of the examples, in tokens.
            step: Examples of a step on all devices; 0 keeps them in the order that they have.
            seed: Seed of the order.
        """
        self.lengths, self.step, self.seed = lengths, step, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch is next; Lightning and Accelerate do."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Indices of the examples."""
        order = list(range(len(self.lengths)))
        if self.step:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(len(order), generator=generator).tolist()
            steps = [order[start : start + self.step] for start in range(0, len(order), self.step)]
            order = [place for step in steps for place in sorted(step, key=lambda index: -self.lengths[index])]
        return iter(order)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.lengths)


class StepShares(Sampler[Share], ABC):
    """One device's share of each step of an epoch; all devices have equal numbers of forward passes."""

    def __init__(self, order: StepOrder, step: int, world: int, rank: int) -> None:
        """Takes the order.

        Args:
            order: Of all examples.
            step: Examples of a step on all devices.
            world: Number of devices.
            rank: Number of this one.
        """
        self.order, self.step, self.world, self.rank = order, step, world, rank

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch is next; Lightning does."""
        self.order.set_epoch(epoch)

    @abstractmethod
    def share(self, step: list[int]) -> Share:
        """This device's share of a step."""

    def __iter__(self) -> Iterator[Share]:
        """This device's share of each step."""
        order = list(self.order)
        for start in range(0, len(order), self.step):
            yield self.share(order[start : start + self.step])

    def __len__(self) -> int:
        """Number of steps."""
        return -(-len(self.order) // self.step)


class PaddedShares(StepShares):
    """Micro-batches of a fixed number of examples, which are padded."""

    def __init__(self, order: StepOrder, step: int, size: int, world: int = 1, rank: int = 0) -> None:
        """As `StepShares`.

        Args:
            order: Of all examples.
            step: Examples of a step on all devices.
            size: Examples of a micro-batch.
            world: Number of devices.
            rank: Number of this one.
        """
        super().__init__(order, step, world, rank)
        self.size = size

    def share(self, step: list[int]) -> Share:
        """Every so-many-th example; where they do not come out even, the index behind the last stands for one that counts for nothing."""
        filled = step + [len(self.order)] * (-len(step) % self.world)
        mine = filled[self.rank :: self.world]
        return [mine[start : start + self.size] for start in range(0, len(mine), self.size)]


class PackedShares(StepShares):
    """Packs: as many examples as fit into a fixed number of tokens; a pack may be empty."""

    def __init__(
        self, order: StepOrder, step: int, costs: Sequence[int], room: int, world: int = 1, rank: int = 0
    ) -> None:
        """As `StepShares`.

        Args:
            order: Of all examples.
            step: Examples of a step on all devices.
            costs: Tokens that each example takes in a pack, behind what all begin with.
            room: Tokens of a pack that examples may take, at least as many as the largest takes.
            world: Number of devices.
            rank: Number of this one.
        """
        super().__init__(order, step, world, rank)
        self.costs, self.room = costs, room

    def share(self, step: list[int]) -> Share:
        """Every so-many-th pack."""
        packs = [[step[place] for place in pack] for pack in best_fit([self.costs[index] for index in step], self.room)]
        packs += [[] for _ in range(-len(packs) % self.world)]
        return packs[self.rank :: self.world]
