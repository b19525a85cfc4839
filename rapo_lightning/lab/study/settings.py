"""What the study compares: one factor at a time around a best setting, in two regimes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...errors import UserError

Regime = Literal["known", "unknown"]
REGIMES: tuple[Regime, ...] = ("known", "unknown")
"""Whether the video model's training captions are known (stage 1's rewriter, captions, 128 examples), or six examples alone."""
BEST = "best"
GRPO = {
    "stage3.grpo.rewards": [{"reward": "video"}, {"reward": "usable", "weight": 0.5}],
    "stage3.grpo.group": 4,
    "stage3.grpo.unrefined": 1,
}
"""GRPO by the loop's own verifiers on a video of each answer (docs/stage3.md), with small groups for the time that takes (ours)."""
STEPS = {"stage3.optimizer.batch_size": 64, "stage3.optimizer.micro_batch_size": 64}
"""Steps of all settings but GRPO's, larger than the recipe's since there are more pairs (ours)."""
FRESH = {
    "stage3.lora.start": "", "stage3.lora.r": 8, "stage3.lora.alpha": 16, "stage3.system": "", "stage3.optimizer.lr": 1e-3, **STEPS,
}  # fmt: skip
"""A fresh adapter in the place of the recipe's, which goes on with stage 1's rewriter at a lower rate (docs/lab.md, "The arms")."""
GOING_ON = {"stage3.optimizer.lr": 6e-4, **STEPS}
"""What goes with the adapter of stage 1's rewriter as the start: twice the recipe's rate for four times its batch (ours)."""
BASELINES: dict[str, Any] = {
    "style": {
        "class_path": "rapo_lightning.evaluation.baselines.StyleFrame",
        "init_args": {
            "prefix": "A simple animation shows ",
            "suffix": ". The motion is smooth and the camera stays fixed.",
        },
    },
    "dictionary": {"class_path": "rapo_lightning.lab.baselines.Dictionary"},
}
"""The baselines of the lab's recipe."""
_ANYWHERE = ("raw", "reference", "chance", "style", "sspo", "blind", "refiner+sspo")
ARMS: Mapping[Regime, tuple[str, ...]] = {
    "known": (*_ANYWHERE, "dictionary", "stage1", "rewriter"),
    "unknown": _ANYWHERE,
}
"""Arms beside the refiners; `rewriter` is stage 1's alone, whatever it answers."""


@dataclass(frozen=True)
class Setting:
    """How a refiner is made.

    Attributes:
        name: Its name within a regime.
        factor: In what it differs from the best setting; `BEST` for that one.
        regime: What is known of the video model's captions.
        start: `stage2.start` of the collection.
        wording: Whose words the prompts are in: `thesaurus` or `lexicon`.
        prompts: How many are collected on.
        objective: `stage3.objective`.
        adapter: What the training begins with: a `fresh` adapter, the `rewriter`'s of stage 1, or that of the `best` setting.
        cycles: Collections that it learns from, each but the first by the refiner before.
        targets: The `collected` ones; these `shuffled` among the prompts of a split (a negative control); or each prompt's
            `reference` (the ceiling of a set of prompts).
        floor: Least score of a target by the verifiers that the recipe has a floor for; 0 takes the recipe's.
        fields: Further fields of the recipe for `finetune`, by dotted key.
    """

    name: str = BEST
    factor: str = BEST
    regime: Regime = "known"
    start: str = "stage1"
    wording: str = "thesaurus"
    prompts: int = 0
    objective: str = "sft"
    adapter: str = "fresh"
    cycles: int = 1
    targets: str = "collected"
    floor: float = 0.0
    fields: Mapping[str, Any] = field(default_factory=dict)

    def arm(self, number: int) -> str:
        """Name of its refiner in the results, by training seed."""
        return f"{self.name}.s{number}"


@dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
        prompts: Prompts of the best setting, by regime.
        sizes: Those of the scaling curve, by regime; the best setting's is left out.
        training_seeds: Trainings of the best setting.
        other_seeds: Trainings of each other one.
        cycles: Most cycles, by regime.
        group: Held-out prompts of each group, at most.
        written: Hand-written requests, at most.
        video_seeds: Videos of each prompt and arm.
        arms: Refiners that are evaluated in one step.
        objectives: Objectives beside `sft`.
        answers: Answers in a step of GRPO.
        pairs: Pairs that a training of sft is to see, in whole epochs (ours, for the time that it takes).
        epochs: Least and most of these.
        filters: `stage3.pairs` of all settings but those that differ in their floor; empty takes the recipe's.
        together: Prompts that a loop works on together, 0 for the recipe's (ours: the later rounds of few prompts take as long as
            those of many).
    """

    prompts: Mapping[str, int]
    sizes: Mapping[str, tuple[int, ...]]
    training_seeds: int = 3
    other_seeds: int = 1
    cycles: Mapping[str, int] = field(default_factory=lambda: {"known": 3, "unknown": 6})
    group: int = 360
    written: int = 100
    video_seeds: int = 3
    arms: int = 6
    objectives: tuple[str, ...] = ("weighted_sft", "sft+dpo", "sft+kto", "sft+grpo")
    answers: int = 64
    pairs: int = 20_000
    epochs: tuple[int, int] = (3, 10)
    filters: tuple[Mapping[str, Any], ...] = ()
    together: int = 5120

    def epochs_of(self, prompts: int) -> int:
        """Epochs of a training on the pairs of so many prompts: few prompts are seen more often."""
        least, most = self.epochs
        return max(least, min(most, math.ceil(self.pairs / prompts)))


FULL = Scale({"known": 10_000, "unknown": 800}, {"known": (160, 640, 2500, 5000)})
"""The study on a GPU (sizes ours)."""
TINY = Scale(
    {"known": 8, "unknown": 8}, {"known": (4,)}, 1, 1, {"known": 2, "unknown": 2}, 2, 2, 1, 12,
    answers=8, epochs=(1, 1), filters=({"filter": "winner"},), together=0,
)  # fmt: skip
"""All of it once on two CPU cores, to see that it runs: figures of this size say nothing, so that any winner will do as a target."""


def settings(scale: Scale, regime: Regime) -> list[Setting]:
    """The table of a regime, the best setting first.

    Where captions are not known there is no stage 1 to start from and no rewriter. There the first cycle finds hardly a target that
    is right in whole, so the best setting is that of the last cycle, with a lower floor: what half fits teaches the style.
    """
    most = scale.cycles[regime]
    if regime == "known":
        # The adapter was chosen on the validation requests (docs/study.md).
        best = Setting(regime=regime, start="stage1", prompts=scale.prompts[regime], adapter="rewriter")
        cycles = range(2, most + 1)
    else:
        best = Setting(regime=regime, start="prompt", prompts=scale.prompts[regime], cycles=most, floor=0.5)
        cycles = range(1, most)

    def other(factor: str, name: str, **changes: Any) -> Setting:
        return replace(best, name=f"{factor}-{name}".replace("+", "-"), factor=factor, **changes)

    found = [best]
    answers = {f"stage3.optimizer.{name}": scale.answers for name in ("batch_size", "micro_batch_size")}
    grpo = {**GRPO, **answers}
    for objective in scale.objectives:
        # GRPO takes larger steps than sft, so that it goes on from the best setting's refiners instead of a training of its own.
        further = (
            {"objective": "grpo", "adapter": BEST, "fields": grpo}
            if objective == "sft+grpo"
            else {"objective": objective}
        )
        found.append(other("objective", objective, **further))
    if regime == "known":
        found += [other("start", "prompt", start="prompt"), other("adapter", "fresh", adapter="fresh")]
        found += [other("wording", "lexicon", wording="lexicon")]
    floor = 0.9 if regime == "known" else 0.7
    found += [other("floor", str(floor), floor=floor)]
    found += [other("prompts", str(size), prompts=size) for size in scale.sizes.get(regime, ())]
    found += [other("cycles", str(number), cycles=number) for number in cycles]
    return [
        *found,
        other("targets", "shuffled", targets="shuffled"),
        other("targets", "reference", targets="reference"),
    ]


def needed(table: Sequence[Setting], names: Sequence[str]) -> list[Setting]:
    """The settings that were named, and those of the cycles that come before theirs; all where none was named."""
    chosen = [item for item in table if item.name in names or not names]
    most = max((item.cycles for item in chosen), default=0)
    return [item for item in table if item in chosen or (item.factor in (BEST, "cycles") and item.cycles < most)]


def of_cycle(table: Sequence[Setting], cycle: int) -> Setting:
    """The setting that learns from so many cycles, and else is the best one.

    Args:
        table: From `settings`.
        cycle: From 1.
    """
    return next(item for item in table if item.factor in (BEST, "cycles") and item.cycles == cycle)


def check_names(names: Sequence[str], scale: Scale, regimes: Sequence[Regime]) -> None:
    """Checks names of settings.

    Raises:
        UserError: If one is of no setting of these regimes.
    """
    there = {item.name for regime in regimes for item in settings(scale, regime)}
    if set(names) - there:
        raise UserError(
            f"The study has no such setting. Got {', '.join(sorted(set(names) - there))}; take some of {', '.join(sorted(there))}."
        )


def regime_fields(regime: Regime, examples: str) -> dict[str, Any]:
    """What a regime sets in the recipe, by dotted key.

    Args:
        regime: The regime.
        examples: CSV of the few examples that are there where captions are not known.
    """
    if regime == "known":
        return {}
    return {
        "graph": "", "stage1.rewriter": "", "stage1.discriminator": "", "stage1.carry_over": False, "stage1.captions": "",
        "stage1.examples": examples, "stage2.start": "prompt", "stage2.rewriter": "", "stage2.memory": 1,
        "stage2.examples": examples, "stage2.style_weight": 0.0,
    }  # fmt: skip


def refiner_fields(refiner: str, alone: bool = False) -> dict[str, Any]:
    """What makes a refiner the start of a loop and nothing else of stage 1, as in `cycles.recipes`, by dotted key.

    Args:
        refiner: Its folder.
        alone: Whether it also makes the later rounds' prompts, which it samples without having been told what was seen.
    """
    own: dict[str, Any] = {"stage2.rewriter": refiner, "stage2.memory": 0} if alone else {}
    return {
        "graph": "", "stage1.rewriter": refiner, "stage1.discriminator": "", "stage1.carry_over": False,
        "stage1.examples": "", "stage1.faithfulness": -1.0, "stage2.start": "stage1", **own,
    }  # fmt: skip
