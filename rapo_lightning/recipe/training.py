"""The recipe's section for `finetune`; see `recipe` for the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ..prompting.chat import Sampling


@dataclass
class Pairs:
    """Which rounds of a trajectory become training pairs."""

    margin: float = 0.0
    """The winner's mean score must exceed that of the user's prompt by more than this, where the loop starts from it and so
    has its video (ours; the paper states no filter)."""
    floors: dict[str, float] = field(default_factory=dict)
    """Least score of the winner, by verifier (Prompt-A-Video's floors per metric; the paper states none); a score that is
    missing is below its floor."""
    max_words: int = 120
    """Longest completion in words (Prompt-A-Video drops over 130, PhyT2V over 120)."""
    validation_share: float = 0.1
    """Share of the prompts that are held out for the validation loss (ours)."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not 0 <= self.validation_share < 1 or self.max_words < 1:
            raise ValueError(
                "`stage3.pairs` needs 0 <= validation_share < 1 and max_words >= 1. Got "
                f"validation_share={self.validation_share}, max_words={self.max_words}."
            )
        if not all(math.isfinite(value) for value in (self.margin, *self.floors.values())):
            raise ValueError(
                "`stage3.pairs` needs numbers for margin and floors, or no pair would pass. Got "
                f"margin={self.margin}, floors={self.floors}."
            )


@dataclass
class Lora:
    """The adapter."""

    r: int = 64
    """Rank (paper)."""
    alpha: int = 64
    """Scale (Open-Sora-Plan's refiner)."""
    dropout: float = 0.1
    """Dropout (Open-Sora-Plan's refiner)."""
    target_modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    """Adapted layers (Open-Sora-Plan's refiner)."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        if min(self.r, self.alpha) < 1 or not 0 <= self.dropout < 1 or not self.target_modules:
            raise ValueError(
                "`stage3.lora` needs r and alpha >= 1, 0 <= dropout < 1 and at least one of target_modules. Got "
                f"r={self.r}, alpha={self.alpha}, dropout={self.dropout}, target_modules={self.target_modules}."
            )


@dataclass
class Optimizer:
    """AdamW with linear warm-up and cosine decay to zero."""

    lr: float = 1.5e-4
    """Peak learning rate (Open-Sora-Plan's refiner)."""
    weight_decay: float = 0.0
    """Weight decay (ours)."""
    warmup_share: float = 0.1
    """Share of the steps with rising rate (Open-Sora-Plan's refiner)."""
    batch_size: int = 32
    """Pairs per optimizer step, over all devices (paper)."""
    micro_batch_size: int = 8
    """Pairs per forward pass and device (ours); what a step learns does not depend on it, since the loss is a mean over
    the tokens of all its pairs."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        sizes = min(self.batch_size, self.micro_batch_size)
        if sizes < 1 or self.batch_size % self.micro_batch_size or not self.lr > 0 or not 0 <= self.warmup_share <= 1:
            raise ValueError(
                "`stage3.optimizer` needs lr > 0, warmup_share in 0..1 and a batch_size >= 1 that micro_batch_size divides. "
                f"Got lr={self.lr}, warmup_share={self.warmup_share}, batch_size={self.batch_size}, "
                f"micro_batch_size={self.micro_batch_size}."
            )


@dataclass
class Stage3:
    """Fine-tuning of the prompt refiner."""

    objective: Literal["sft"] = "sft"
    """Training objective (paper: supervised fine-tuning)."""
    epochs: int = 8
    """Passes over the pairs (paper: 8 and 3 "respectively"; which is meant for the refiner is ambiguous)."""
    checkpoint_steps: int = 50
    """Optimizer steps between two checkpoints within an epoch (ours), from which a killed training goes on; 0 saves at the
    ends of epochs alone. What is learned does not depend on it."""
    max_length: int = 512
    """Longest pair in tokens (ours); longer ones are dropped and counted."""
    system: str = ""
    """System message of the refiner; empty takes the shipped template `stage3/templates/system.txt`. The refiner's folder
    holds the text itself."""
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))
    """How the trained refiner answers (ours: greedy)."""
    pairs: Pairs = field(default_factory=Pairs)
    """Pair rule and filters."""
    lora: Lora = field(default_factory=Lora)
    """The adapter."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """The optimizer."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        if min(self.epochs, self.max_length) < 1 or self.checkpoint_steps < 0:
            raise ValueError(
                "`stage3` needs epochs and max_length >= 1, and checkpoint_steps >= 0. Got "
                f"epochs={self.epochs}, max_length={self.max_length}, checkpoint_steps={self.checkpoint_steps}."
            )
