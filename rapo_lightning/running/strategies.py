"""How the devices of a training share it: whole copies of the model, or a base of which each holds a part."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.parallel import ParallelStrategy
from torch.optim import Optimizer

from ..errors import UserError

BARRIER_TIMEOUT = timedelta(days=20)
"""Ranks finish their videos at different times; torch's default of 10 or 30 minutes would end the run. In milliseconds it
fits into 32 bits, which is all that a wait of the operating system takes."""
FSDP2 = "fsdp2"
"""Short name of `ShardedBase` in a recipe's `trainer.strategy`."""
_LIGHTNINGS = ("ModelParallelStrategy", "lightning.pytorch.strategies.ModelParallelStrategy")
"""Lightning's own class, by the names that a recipe may give it."""


class ShardedBase(ModelParallelStrategy):
    """FSDP2 over a frozen base whose few trained parameters are whole on every device.

    Lightning's strategy gathers weights and optimizer state of the whole model for a checkpoint. Here all that is saved is
    whole on every device already, so that checkpoints are written and read as under DDP, in the same form: what a training
    under one of them saved, the other goes on with. `LightningModule.configure_model` shards the base.
    """

    def __init__(
        self,
        data_parallel_size: Literal["auto"] | int = "auto",
        tensor_parallel_size: Literal["auto"] | int = "auto",
        process_group_backend: str | None = None,
        timeout: timedelta | None = BARRIER_TIMEOUT,
    ) -> None:
        """Takes what Lightning's `ModelParallelStrategy` does, but for the form of checkpoints.

        Args:
            data_parallel_size: Number of all devices, which `auto` takes.
            tensor_parallel_size: 1, which `auto` takes: no layer is split.
            process_group_backend: Of torch.distributed; None takes the device's.
            timeout: How long a process waits for the others.

        Raises:
            ValueError: If layers should be split.
        """
        if tensor_parallel_size not in ("auto", 1):
            raise ValueError(
                f"A refiner is trained without tensor parallelism. Got tensor_parallel_size={tensor_parallel_size}; set it "
                "to 1."
            )
        super().__init__(data_parallel_size, 1, False, process_group_backend, timeout)

    # What is saved is whole on every device: nothing is to be gathered.
    restore_checkpoint_after_setup = ParallelStrategy.restore_checkpoint_after_setup
    lightning_restore_optimizer = ParallelStrategy.lightning_restore_optimizer
    lightning_module_state_dict = ParallelStrategy.lightning_module_state_dict
    load_model_state_dict = ParallelStrategy.load_model_state_dict
    optimizer_state = ParallelStrategy.optimizer_state
    load_optimizer_state_dict = ParallelStrategy.load_optimizer_state_dict
    save_checkpoint = ParallelStrategy.save_checkpoint
    load_checkpoint = ParallelStrategy.load_checkpoint

    def setup_environment(self) -> None:
        """Starts the process group, and with it the mesh of all devices."""
        if self._data_parallel_size == "auto":
            self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def model_to_device(self) -> None:
        """Moves what is not sharded, and has all devices begin with the first one's adapter, as DDP does."""
        super().model_to_device()
        assert self.model is not None
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                torch.distributed.broadcast(parameter.data, 0)

    def average_gradients(self, optimizer: Optimizer) -> None:
        """Averages the gradients of an optimizer's parameters over all devices, as DDP does; once per step."""
        found = [item.grad for group in optimizer.param_groups for item in group["params"] if item.grad is not None]
        for grad in found:
            grad.div_(self.world_size)
        for waiting in [torch.distributed.all_reduce(grad, async_op=True) for grad in found]:
            waiting.wait()


_OWN = f"{ShardedBase.__module__}.{ShardedBase.__qualname__}"


def is_sharding(options: Mapping[str, Any]) -> bool:
    """Whether a recipe's `trainer` shards the base, which is a matter of training alone."""
    chosen = options.get("strategy")
    named = chosen.get("class_path") if isinstance(chosen, Mapping) else chosen
    return named in (FSDP2, _OWN, *_LIGHTNINGS)


def with_own_strategy(options: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's `trainer` in which `fsdp2`, and Lightning's class for it, are `ShardedBase`.

    Raises:
        UserError: If Lightning's class is to save checkpoints in parts.
    """
    if not is_sharding(options):
        return dict(options)
    chosen = options["strategy"]
    arguments = {} if chosen == FSDP2 else dict(chosen.get("init_args") or {})
    if arguments.pop("save_distributed_checkpoint", False):
        raise UserError(
            "A refiner's checkpoint is one file, as the adapter is whole on every device. Got "
            "save_distributed_checkpoint=True in `trainer.strategy`; leave it out."
        )
    return {**options, "strategy": {"class_path": _OWN, "init_args": arguments}}
