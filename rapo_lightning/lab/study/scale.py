"""How large a study is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Regime = Literal["known", "unknown"]
REGIMES: tuple[Regime, ...] = ("known", "unknown")
"""Whether the video model's training captions are known (stage 1's rewriter, captions, 128 examples), or six examples alone."""
FEW = 6
"""Examples where captions are not known (the audit of the method: what a user can write in an afternoon)."""


@dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
        prompts: Prompts of the best setting, by regime, for each cycle.
        sizes: Those of the scaling curve where captions are known; the best setting's is left out.
        few: Which of these is for settings that need a collection of their own, for the time that one takes.
        requests: Which of these is for what needs several videos of each prompt where captions are known: GRPO, and a loop that starts
            from the user's prompts. Else GRPO takes the requests of the first cycle.
        training_seeds: Trainings of the best setting and of the one that it was found from.
        other_seeds: Trainings of each other one.
        cycles: Most cycles where captions are known.
        rounds: Videos of a prompt at most, for each cycle where captions are not known; else the recipe's.
        group: Held-out prompts of each group, at most.
        written: Hand-written requests, at most.
        video_seeds: Videos of each prompt and arm.
        arms: Refiners that are evaluated in one step.
        objectives: Objectives beside `sft`.
        answers: Answers in a step of GRPO.
        pairs: Pairs that a training of sft is to see, in whole epochs (ours, for the time that it takes).
        epochs: Least and most of these.
        filters: `stage3.pairs` of all settings but those that differ in their floor; empty takes the recipe's.
        hindsight: `stage3.hindsight` of the best setting where captions are not known. 0.75, which is reached by 0.93 of the rounds that
            the judge gives 0.9 or more and by 0.12 of those below 0.5 (`recipes/lab/loop_10k`, read once), lets texts with words that
            mean nothing to the video model through (docs/study.md).
        most: `stage3.hindsight_most` there (ours): left and right, and the motions that no example has, are tried a hundred times less often
            than the rest.
        closed: Share of the prompts whose targets must have a word for a refiner with a closed vocabulary; 0 leaves all open. At the
            default, 10 of 10,000, nothing is left of what the rewriter kept of requests (ours).
        together: Prompts that a loop works on together, 0 for the recipe's (ours: the later rounds of few prompts take as long as
            those of many).
        floors: Least score of a target, for each cycle where captions are not known: the first finds few (ours).
        transfer: Prompts of each model in the experiment with two (ours).
    """

    prompts: Mapping[str, tuple[int, ...]]
    sizes: tuple[int, ...]
    few: int = 0
    requests: int = 0
    training_seeds: int = 3
    other_seeds: int = 1
    cycles: int = 3
    rounds: tuple[int, ...] = (6, 5, 3)
    group: int = 360
    written: int = 100
    video_seeds: int = 3
    arms: int = 6
    objectives: tuple[str, ...] = ("weighted_sft", "sft+dpo", "sft+kto", "sft+grpo")
    answers: int = 64
    pairs: int = 20_000
    epochs: tuple[int, int] = (3, 20)
    filters: tuple[Mapping[str, Any], ...] = ()
    hindsight: float = 0.8
    most: int = 60
    closed: float = 0.001
    together: int = 5120
    floors: tuple[float, ...] = (0.7, 0.9, 0.9)
    transfer: int = 800

    def epochs_of(self, prompts: int) -> int:
        """Epochs of a training on the pairs of so many prompts: few prompts are seen more often."""
        least, most = self.epochs
        return max(least, min(most, math.ceil(self.pairs / prompts)))

    def closed_of(self, prompts: int) -> int:
        """`stage3.closed_vocabulary` of a training on so many prompts, at least 2; 0 where vocabularies are open."""
        return max(2, round(self.closed * prompts)) if self.closed else 0


FULL = Scale({"known": (10_000,), "unknown": (1000, 1000, 2500)}, (160, 640, 2500, 5000), few=2500, requests=640)
"""The study on a GPU (sizes ours). Where captions are not known the first cycles look long at few prompts, since few of their texts are right, and the
last one at more, whose words are to be learned."""
TINY = Scale(
    {"known": (8,), "unknown": (8, 8)}, (4,), 4, 4, 1, 1, 2, (2, 2), 2, 2, 1, 12,
    answers=8, epochs=(1, 1), filters=({"filter": "winner"},), together=0, transfer=8,
)  # fmt: skip
"""All of it once on two CPU cores, to see that it runs: figures of this size say nothing, so that any winner will do as a target."""
