"""A loader that knows how far its epoch has come, so that a training goes on in the middle of one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Sampler

from rapo_lightning.errors import RunError


class RestOfEpoch(Sampler[Any]):
    """What an epoch takes from one step on; its length is the whole epoch's, as Lightning counts."""

    def __init__(self, sampler: Sampler[Any]) -> None:
        """Takes the order of the epoch.

        Args:
            sampler: Gives the same whenever the epoch is the same.
        """
        self.sampler = sampler
        self.start = 0
        """The step that the next pass begins with; passes after that begin with the first."""

    def __iter__(self) -> Iterator[Any]:
        """What is left of the epoch."""
        start, self.start = self.start, 0
        return islice(iter(self.sampler), start, None)

    def __len__(self) -> int:
        """Number of steps of the whole epoch."""
        return len(self.sampler)  # type: ignore[arg-type]


class ResumableLoader(DataLoader[Any]):
    """A DataLoader in this process with the state that Lightning saves and restores.

    Batches are made when they are asked for, none ahead, so that those handed out are those that were trained on.
    """

    def __init__(self, dataset: Any, sampler: Sampler[Any], collate_fn: Any, devices: int = 1) -> None:
        """Takes what batches are made of.

        Args:
            dataset: Gives whatever the sampler asks for.
            sampler: Gives lists, one for each batch, and the same ones whenever the epoch is the same.
            collate_fn: Makes a batch of what the dataset gave for a list.
            devices: How many share the epoch; each has a loader of its own.
        """
        self.devices = devices
        self.rest = RestOfEpoch(sampler)
        self.taken = 0
        """Batches of the running epoch that were handed out."""
        super().__init__(dataset, batch_sampler=self.rest, collate_fn=collate_fn)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches that are left of the epoch."""
        self.taken = self.rest.start
        for batch in super().__iter__():
            self.taken += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How far the epoch has come; Lightning writes it into checkpoints."""
        return {"taken": self.taken, "devices": self.devices}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on behind the batches of a state; behind the last comes the next epoch's first.

        Raises:
            RunError: If the epoch was begun on another number of devices, whose batches were others.
        """
        begun = state.get("devices", self.devices)
        if state["taken"] and begun != self.devices:
            raise RunError(
                f"A training goes on with the devices that it was begun with. Got {self.devices} instead of {begun}; set "
                "`trainer.devices` so, or delete the run's `checkpoints` folder to train anew."
            )
        self.rest.start = state["taken"] % len(self)
