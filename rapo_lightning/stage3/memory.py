"""A training that does not fit into the GPU says which field would make it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import RunError
from ..recipe import Stage3


@contextmanager
def memory_told(stage3: Stage3) -> Iterator[None]:
    """To be put around a training.

    Args:
        stage3: Its settings.

    Raises:
        RunError: If the GPU's memory does not suffice; checkpoints stay as they are.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        found = " ".join(str(error).split())[:160].rstrip(".")
        raise RunError(
            f"The training does not fit into the GPU's memory. Got {found}; {_advice(stage3)}. What was saved is kept."
        ) from error


def _advice(stage3: Stage3) -> str:
    size = stage3.optimizer.micro_batch_size
    ways = []
    if size > 1:
        ways.append(f"lower `stage3.optimizer.micro_batch_size` from {size} to {size // 2}, which trains anew")
    if not stage3.gradient_checkpointing:
        ways.append("set `stage3.gradient_checkpointing: true`, which goes on from the last checkpoint")
    if size == 1 and stage3.lora.quantization == "none":
        ways.append("set `stage3.lora.quantization: nf4`, which trains anew")
    return ", or ".join(ways) or f"lower `stage3.max_length` ({stage3.max_length}), or train a smaller language model"
