"""Whether an error says that memory ran out."""

from __future__ import annotations

import torch
from accelerate.utils.memory import should_reduce_batch_size

_OF_CUDA = "CUDA error: out of memory"
"""What CUDA itself has no room for, beside what torch asks it for, such as a context or a kernel's workspace; a class of its own
in torch, `AcceleratorError`."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had too little memory.

    Args:
        error: What was raised.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _OF_CUDA in str(error):
        return True
    return isinstance(error, Exception) and should_reduce_batch_size(error)
