"""What a command tells the person at the terminal."""

from __future__ import annotations

import os
import sys
import warnings

_NOISE = (
    # Known, meant, and of no use to a user of the commands.
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*Found .* module\\(s\\) in eval mode.*",
    ".*predict returned None.*",
    # The discriminator is so small that its Trainer is told to stay on the CPU.
    ".*GPU available but not used.*",
    ".*`torch_dtype` is deprecated.*",
    ".*is_gradient_checkpointing` is deprecated.*",
    # It is the sum over all devices already.
    ".*recommended to use `self.log\\('train_loss_epoch'.*",
    ".*Total length of `list` across ranks is zero.*",
    ".*The number of training batches .* is smaller than the logging interval.*",
)


def say(text: str, error: bool = False) -> None:
    """Prints a line, once in a distributed run.

    Args:
        text: The line.
        error: Whether it goes to the error stream, where it is no part of what a command puts out.
    """
    # Imported late: commands that load nothing should not wait for torch.
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    rank_zero_only(print)(text, file=sys.stderr if error else sys.stdout, flush=True)


def quiet() -> None:
    """Silences what libraries say of themselves at every start; warnings of substance stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    for pattern in _NOISE:
        warnings.filterwarnings("ignore", message=pattern)
