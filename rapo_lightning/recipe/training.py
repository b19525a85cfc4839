"""The recipe's section for `finetune`; see `recipe` for the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..prompting.chat import Sampling
from .objectives import Dpo, Grpo, Kto, Reward, WeightedSft, objective_parts
from .stages import Component

FILTERS: Mapping[str, str] = {
    name: f"rapo_lightning.stage3.pairs.{name.title().replace('_', '')}"
    for name in (
        "averaged", "winner", "margin", "pareto", "floors", "named_right", "faithful", "style", "words", "distinct", "balance"
    )
}  # fmt: skip
"""The shipped filters of `stage3.pairs`: class by name."""


ALL_LINEAR = "all-linear"
"""What stands for all linear layers in `stage3.lora.target_modules` (PEFT's name)."""


def _usual_filters() -> list[dict[str, Any]]:
    return [{"filter": "winner"}, {"filter": "margin"}, {"filter": "words"}]


@dataclass
class Views:
    """How the views of the pairs beside `sft` are made; `sft` has the rounds that the filters keep."""

    rejected: Literal["worst", "dominated"] = "worst"
    """Which round of the same prompts is rejected in `preference`: the worst by `stage2.ranking` (ours), or the worst of those that
    the chosen one dominates, no verifier being worse and one better (VPO)."""
    gap: float = 0.0
    """By how much the chosen round's mean score must exceed the rejected one's (VPO and Prompt-A-Video have such gaps, on scales
    of their own)."""
    good: float = 0.5
    """Least mean score of the verifiers that vote for a kept round to be a good one in `unpaired` (ours)."""
    bad: float = 0.5
    """Mean score below which any round is a bad one in `unpaired` (ours); between both it is neither."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not all(map(math.isfinite, (self.gap, self.good, self.bad))) or self.gap < 0 or self.bad > self.good:
            raise ValueError(
                "`stage3.views` needs numbers with gap >= 0 and bad <= good. Got "
                f"gap={self.gap}, good={self.good}, bad={self.bad}."
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
    """Adapted layers (Open-Sora-Plan's refiner); `[all-linear]` for all linear layers but the output's (QLoRA)."""
    variant: Literal["lora", "dora", "rslora"] = "lora"
    """Form of the adapter: LoRA (paper; its update is scaled by alpha / r), DoRA (arXiv:2402.09353: a trained magnitude for each output
    of a layer beside it; vLLM cannot load it), or rsLoRA (arXiv:2312.03732: scaled by alpha / sqrt(r), for high ranks)."""
    quantization: Literal["none", "nf4", "float8"] = "none"
    """How the frozen base is held in training (ours: as it is). `nf4` is QLoRA's four bits, quantized doubly (arXiv:2305.14314); it
    needs a CUDA device and `pip install 'rapo-lightning[qlora]'`. `float8` computes with eight bits, a scale for each row (ours), on
    cards that can (compute capability 8.9 or more). The adapter fits the unquantized base still."""
    start: str = ""
    """Folder of a refiner, such as stage 1's rewriter, whose adapter the training begins with (ours: a fresh one). It has the same
    base, rank, scale, layers and variant; objectives that compare with a reference compare with it."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        if ALL_LINEAR in self.target_modules and len(self.target_modules) > 1:
            raise ValueError(
                f"`stage3.lora.target_modules` must name layers, or be [{ALL_LINEAR}] alone. Got {self.target_modules}; leave "
                "one of both out."
            )
        if min(self.r, self.alpha) < 1 or not 0 <= self.dropout < 1 or not self.target_modules:
            raise ValueError(
                "`stage3.lora` needs r and alpha >= 1, 0 <= dropout < 1 and at least one of target_modules. Got "
                f"r={self.r}, alpha={self.alpha}, dropout={self.dropout}, target_modules={self.target_modules}."
            )


@dataclass
class Optimizer:
    """AdamW with linear warm-up."""

    lr: float = 1.5e-4
    """Peak learning rate (Open-Sora-Plan's refiner)."""
    weight_decay: float = 0.0
    """Weight decay (ours)."""
    warmup_share: float = 0.1
    """Share of the steps with rising rate (Open-Sora-Plan's refiner; VPO)."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """What the rate does after them: a cosine to zero (ours), a line to zero (Open-Sora-Plan's refiner, by transformers' default; VPO's
    DPO), or nothing (VPO's supervised training)."""
    clip: float = 1.0
    """Norm that a step's gradient is shortened to (the default of transformers and TRL, so Open-Sora-Plan's refiner); 0 for
    none. `trainer.gradient_clip_val` wins where it is set."""
    spike: float = 10.0
    """How many times the running median a step's gradient norm may be (ours); a step above it is skipped, see
    `stage3.guards.SpikeRule`. 0 takes every step."""
    batch_size: int = 32
    """Pairs per optimizer step, over all devices (paper)."""
    micro_batch_size: int = 8
    """Pairs per forward pass and device where they are padded (ours); what a step learns does not depend on it, since the loss is a
    mean over the tokens of all its pairs."""
    packing: Literal["auto", "packs", "padding"] = "auto"
    """How the engine `lightning` puts a step's pairs into forward passes (ours): side by side in packs that hold the instruction once,
    or padded. auto takes packs on CUDA devices of compute capability 8.0 or more, where every layer of the model attends to
    everything before and its attention can be replaced, and else padding."""
    pack_tokens: int = 8192
    """Most tokens of a pack (ours); the size that wastes least is chosen below it. What a step learns does not depend on it but for
    the dropout, which pairs in one pack share where they share tokens."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not (0 <= self.clip < math.inf and (self.spike == 0 or 1 < self.spike < math.inf)):
            raise ValueError(
                "`stage3.optimizer` needs clip >= 0, and a spike above 1 or 0 for none. Got "
                f"clip={self.clip}, spike={self.spike}."
            )
        sizes = min(self.batch_size, self.micro_batch_size)
        if sizes < 1 or self.batch_size % self.micro_batch_size or not self.lr > 0 or not 0 <= self.warmup_share <= 1:
            raise ValueError(
                "`stage3.optimizer` needs lr > 0, warmup_share in 0..1 and a batch_size >= 1 that micro_batch_size divides. "
                f"Got lr={self.lr}, warmup_share={self.warmup_share}, batch_size={self.batch_size}, "
                f"micro_batch_size={self.micro_batch_size}."
            )
        if self.pack_tokens < 128 or self.pack_tokens % 128:
            raise ValueError(
                "`stage3.optimizer.pack_tokens` must be a multiple of 128, which attention goes by. Got "
                f"{self.pack_tokens}; take one, such as 8192."
            )


@dataclass
class Stage3:
    """Fine-tuning of the prompt refiner."""

    objective: str = "sft"
    """What is trained for (paper: sft, supervised fine-tuning). `sft` and `weighted_sft` learn from the rounds that the filters
    keep, `dpo` and `reward` from those against a worse round of the same request, `kto` from single rounds that are good or bad,
    `grpo` from requests alone, by rewards of its own answers; `sft+dpo` and the like train one after the other on one adapter. `finetune --dry_run true` counts what each has."""
    engine: Literal["auto", "lightning", "trl"] = "auto"
    """What trains: `lightning` (sft, weighted_sft, dpo) or `trl` (all); auto takes lightning where it can."""
    epochs: int = 8
    """Passes over the pairs by sft and weighted_sft (paper: 8 and 3 "respectively"; which is meant for the refiner is ambiguous)."""
    best_by: Literal["val_loss", "val_preference"] = "val_loss"
    """What chooses the epoch that is kept: the lowest validation loss (ours), or the highest share of held-out preferences whose
    chosen text is likelier than the rejected one."""
    patience: int = 0
    """Epochs without a better `best_by` after which a training ends early (ours: 0, never)."""
    checkpoint_steps: int = 50
    """Optimizer steps between two checkpoints within an epoch (ours), from which a killed training goes on; 0 saves at the
    ends of epochs alone. What is learned does not depend on it."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass instead of kept (ours; Open-Sora-Plan's refiner does): less
    memory, a forward pass more for each step. What is learned does not depend on it, so a training can go on with it."""
    max_length: int = 512
    """Longest pair in tokens (ours); longer ones are dropped and counted."""
    system: str = ""
    """System message of the refiner; empty takes the shipped template `stage3/templates/system.txt`. The refiner's folder
    holds the text itself."""
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))
    """How the trained refiner answers (ours: greedy)."""
    closed_vocabulary: int = 0
    """Least number of targets that a word must be in for the trained refiner to use it, whatever a request says (ours): a word that no
    caption has breaks a video. 0 lets it use any."""
    runs: list[str] = field(default_factory=list)
    """Run folders whose trajectories are read together, such as the cycles of a loop that starts from its own refiner; empty
    reads the run folder itself. `finetune --runs A B` sets it."""
    pairs: list[dict[str, Any]] = field(default_factory=_usual_filters)
    """Filters that choose among the rounds, in this order, each as `{filter: NAME, parameter: value}`; a filter of your own is
    named by its class (paper: `winner` alone). An empty list keeps every round."""
    reader: Component = field(default_factory=Component)
    """What reads whether a prompt still names what the request names, for the filters `named_right` and `faithful` and for
    `finetune --dry_run`; empty where nothing can."""
    hindsight: float = 0.0
    """Least share of the words of what a judge saw that a round's text must have for the two to become a pair, whatever was asked for,
    beside the pairs of the filters (ours, after arXiv:1707.01495); 0 makes none."""
    hindsight_most: int = 0
    """Such pairs that every two words in a row of what was seen are brought to, as far as there are so many (ours); 0 takes one a
    prompt instead."""
    hindsight_others: bool = True
    """Whether a prompt that the judge restates also makes a pair with the text of any video that shows all of that (ours)."""
    validation_share: float = 0.1
    """Share of the prompts that are held out for the validation loss (ours)."""
    views: Views = field(default_factory=Views)
    """How the preference and unpaired views are made."""
    lora: Lora = field(default_factory=Lora)
    """The adapter."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """The optimizer."""
    weighted_sft: WeightedSft = field(default_factory=WeightedSft)
    """What `weighted_sft` has of its own."""
    dpo: Dpo = field(default_factory=Dpo)
    """What `dpo` has of its own."""
    kto: Kto = field(default_factory=Kto)
    """What `kto` has of its own."""
    reward: Reward = field(default_factory=Reward)
    """What `reward` has of its own."""
    grpo: Grpo = field(default_factory=Grpo)
    """What `grpo` has of its own."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        objective_parts(self.objective)
        if self.objective == "reward" and self.lora.start:
            raise ValueError(
                f"`stage3.lora.start` is a refiner's adapter, and a reward model begins with a fresh one. Got {self.lora.start!r}; "
                "leave it out."
            )
        if min(self.epochs, self.max_length) < 1 or min(self.checkpoint_steps, self.patience) < 0:
            raise ValueError(
                "`stage3` needs epochs and max_length >= 1, checkpoint_steps >= 0 and patience >= 0. Got "
                f"epochs={self.epochs}, max_length={self.max_length}, checkpoint_steps={self.checkpoint_steps}, "
                f"patience={self.patience}."
            )
        if min(self.closed_vocabulary, self.hindsight_most) < 0:
            raise ValueError(
                "`stage3` needs closed_vocabulary and hindsight_most >= 0. Got "
                f"{self.closed_vocabulary} and {self.hindsight_most}."
            )
        if self.hindsight_most and not self.hindsight:
            raise ValueError(
                f"`stage3.hindsight_most` needs hindsight > 0. Got {self.hindsight_most} and 0; set both, or neither."
            )
        if not 0 <= self.hindsight <= 1:
            raise ValueError(f"`stage3` needs 0 <= hindsight <= 1. Got {self.hindsight}.")
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"`stage3` needs 0 <= validation_share < 1. Got {self.validation_share}.")
        for place, item in enumerate(self.pairs):
            name = item.get("filter")
            # One that is named by its class is looked at where it is built.
            if not isinstance(name, str) or (name not in FILTERS and "." not in name):
                raise ValueError(
                    f"`stage3.pairs[{place}]` must be {{filter: NAME, ...}} with one of {', '.join(FILTERS)}, or a class of "
                    f"yours. Got {item}; correct the name."
                )
