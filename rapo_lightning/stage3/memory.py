"""A training that does not fit into the GPU says which field would make it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import RunError
from ..models.memory import is_out_of_memory
from ..recipe import Stage3


@contextmanager
def memory_told(stage3: Stage3, pack_tokens: int = 0) -> Iterator[None]:
    """To be put around a training.

    Args:
        stage3: Its settings.
        pack_tokens: Most tokens of a pack, 0 where pairs are padded.

    Raises:
        RunError: If the GPU's memory does not suffice; checkpoints stay as they are.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        found = " ".join(str(error).split())[:160].rstrip(".")
        raise RunError(
            f"The training does not fit into the GPU's memory. Got {found}; {_advice(stage3, pack_tokens)}. What was saved is kept."
        ) from error


def _advice(stage3: Stage3, pack_tokens: int) -> str:
    field = "pack_tokens" if pack_tokens else "micro_batch_size"
    size, least = getattr(stage3.optimizer, field), 4 * stage3.max_length if pack_tokens else 2
    lower = -(-size // 256) * 128 if pack_tokens else size // 2
    ways = []
    if size >= least:
        ways.append(f"lower `stage3.optimizer.{field}` from {size} to {lower}, which trains anew")
    if not stage3.gradient_checkpointing:
        ways.append("set `stage3.gradient_checkpointing: true`, which goes on from the last checkpoint")
    if size < least and stage3.lora.quantization == "none":
        ways.append("set `stage3.lora.quantization: nf4`, which trains anew")
    return ", or ".join(ways) or f"lower `stage3.max_length` ({stage3.max_length}), or train a smaller language model"
