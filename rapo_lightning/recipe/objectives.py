"""What the objectives of stage 3 have as settings of their own; see `recipe` for the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PARTS = ("sft", "weighted_sft", "dpo", "kto", "reward", "grpo")
"""The objectives by name."""
REWARDS: Mapping[str, str] = {
    "faithfulness": "rapo_lightning.stage3.rewards.Faithfulness",
    "length": "rapo_lightning.stage3.rewards.Length",
    "usable": "rapo_lightning.stage3.rewards.Usable",
    "model": "rapo_lightning.stage3.rewards.Model",
    "service": "rapo_lightning.stage3.rewards.Service",
    "video": "rapo_lightning.collection.video_reward.VideoReward",
}
"""The shipped rewards of `stage3.grpo.rewards`: class by name."""


def objective_parts(objective: str) -> list[str]:
    """The objectives of a chain such as `sft+dpo`, in order.

    Args:
        objective: The recipe's `stage3.objective`.

    Raises:
        ValueError: If one is unknown, or they do not follow each other.
    """
    parts = [part.strip() for part in objective.split("+")]
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(
            f"`stage3.objective` must be one of {', '.join(PARTS)}, or two of them one after the other, such as sft+dpo. Got "
            f"{objective!r}; correct the name."
        )
    supervised = ("sft", "weighted_sft")
    if len(parts) > 2 or (len(parts) == 2 and (parts[0] not in supervised or parts[1] in (*supervised, "reward"))):
        raise ValueError(
            "`stage3.objective` may chain sft or weighted_sft with dpo, kto or grpo, on one adapter. Got "
            f"{objective!r}; name one objective, or two such as sft+dpo."
        )
    return parts


def _check(name: str, lr: float, epochs: int, **positive: float) -> None:
    """Raises ValueError if a section's numbers cannot be."""
    found = {"lr": lr, **positive}
    if epochs < 1 or not all(math.isfinite(value) and value > 0 for value in found.values()):
        raise ValueError(
            f"`stage3.{name}` needs epochs >= 1 and {', '.join(found)} > 0. Got epochs={epochs}, "
            + ", ".join(f"{key}={value}" for key, value in found.items())
            + "."
        )


@dataclass
class WeightedSft:
    """Supervised fine-tuning in which a pair counts by what it gained; rate and epochs are those of `sft`."""

    temperature: float = 0.3
    """Score gap that makes a pair count e times as much (ours; the weights are those of advantage-weighted regression)."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        _check("weighted_sft", 1.0, 1, temperature=self.temperature)


@dataclass
class Dpo:
    """Direct preference optimization."""

    beta: float = 0.1
    """Strength of the reference (VPO, and the default of TRL)."""
    lr: float = 5e-5
    """Peak learning rate (ours, for a LoRA; VPO trains all weights at 5e-7)."""
    epochs: int = 1
    """Passes over the preferences (VPO)."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        _check("dpo", self.lr, self.epochs, beta=self.beta)


@dataclass
class Kto:
    """Kahneman-Tversky optimization, on single rounds that are good or bad."""

    beta: float = 0.1
    """Strength of the reference (the default of TRL)."""
    desirable_weight: float = 1.0
    """Weight of the good rounds (the default of TRL); TRL says so where it does not suit their number."""
    undesirable_weight: float = 1.0
    """Weight of the bad rounds (the default of TRL)."""
    lr: float = 5e-5
    """Peak learning rate (ours, for a LoRA)."""
    epochs: int = 1
    """Passes over the rounds (ours)."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        _check(
            "kto", self.lr, self.epochs, beta=self.beta, desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )  # fmt: skip


@dataclass
class Reward:
    """A reward model: a number for a request and a prompt, from preferences (Bradley and Terry)."""

    lr: float = 1e-4
    """Peak learning rate (ours, for a LoRA; TRL's default is the same)."""
    epochs: int = 1
    """Passes over the preferences (ours)."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        _check("reward", self.lr, self.epochs)


def _usual_rewards() -> list[dict[str, Any]]:
    return [{"reward": "faithfulness"}, {"reward": "usable"}]


@dataclass
class Grpo:
    """Group relative policy optimization (arXiv:2402.03300): the refiner answers, and what is better than its group is made likelier.

    `stage3.optimizer.batch_size` counts answers, and `micro_batch_size` those of a forward pass.
    """

    rewards: list[dict[str, Any]] = field(default_factory=_usual_rewards)
    """What answers are rewarded for, added up, each as `{reward: NAME, weight: 1.0, parameter: value}`: `faithfulness`, `length`,
    `usable`, `model` (texts alone), `video` (the recipe's video model and verifiers), `service` (a URL), or a class of yours."""
    group: int = 8
    """Texts that are compared for each request (PromptRL)."""
    unrefined: int = 2
    """How many of a group are the request itself (PromptRL): the others are compared with it, and it is not trained on."""
    temperature: float = 1.0
    """Temperature of the answers that are trained on (the default of TRL)."""
    beta: float = 0.01
    """Strength of the reference (PromptRL)."""
    lr: float = 2e-5
    """Peak learning rate (ours, for a LoRA; PromptRL trains all weights at 1e-6)."""
    epochs: int = 1
    """Passes over the requests (ours)."""

    def __post_init__(self) -> None:
        """Checks ranges and names."""
        _check("grpo", self.lr, self.epochs, temperature=self.temperature)
        if self.beta < 0 or not 0 <= self.unrefined <= self.group - 2:
            raise ValueError(
                "`stage3.grpo` needs beta >= 0, and two answers beside the unrefined ones in a group. Got "
                f"beta={self.beta}, group={self.group}, unrefined={self.unrefined}."
            )
        names = [item.get("reward") for item in self.rewards]
        for place, (item, name) in enumerate(zip(self.rewards, names, strict=True)):
            if (
                not isinstance(name, str)
                or (name not in REWARDS and "." not in name)
                or not isinstance(item.get("weight", 1.0), (int, float))
                or not math.isfinite(item.get("weight", 1.0))
            ):
                raise ValueError(
                    f"`stage3.grpo.rewards[{place}]` must be {{reward: NAME, weight: 1.0, ...}} with one of {', '.join(REWARDS)}, "
                    f"or a class of yours, and a finite weight. Got {item}; correct it."
                )
        if not names or len(set(names)) < len(names):
            raise ValueError(f"`stage3.grpo.rewards` must name at least one reward, and each once. Got {names}.")
