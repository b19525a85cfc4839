"""The recipe's section for `evaluate`; see `recipe` for the whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from .stages import Component

ARMS = ("raw", "reference", "chance", "stage1", "refiner", "sspo", "refiner+sspo", "raw_best", "blind")
"""The arms that every recipe may name."""
LOOPS = ("sspo", "refiner+sspo", "raw_best", "blind")
"""Those that make up to `stage2.rounds` videos of a prompt and keep the best."""
_COMPARED = ("stage1", "sspo", "refiner")


@dataclass
class Evaluation:
    """What `evaluate` compares."""

    prompts: str = ""
    """Held-out prompts: txt, csv, parquet or a dataset's folder; the columns are those of the top-level `prompts`."""
    arms: list[str] = field(default_factory=lambda: ["raw", "sspo", "refiner", "refiner+sspo", "reference"])
    """Arms: names of `baselines`, `variants` and `refiners`, and

    - `raw`, the user's prompt, and `reference`, the column `reference`;
    - `chance`, the reference of another prompt, the level that a score has to be read against (ours);
    - `stage1`, which needs a `graph` or a rewriter, and `refiner`;
    - `sspo` and `refiner+sspo`, the best of `stage2.rounds` rounds;
    - `raw_best`, the user's prompt with as many seeds, and `blind`, from where the loop starts as many rewrites without
      critiques, memory and physics: the best of those, chosen as in the loop (ours).
    """
    baselines: dict[str, Component] = field(default_factory=dict)
    """Further arms by name: classes that make texts of prompts (`evaluation.baselines.Baseline`)."""
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further arms by name: stage 1 with other settings, as dotted keys (`{"graph": "", "stage1.carry_over": true}`)."""
    refiners: dict[str, str] = field(default_factory=dict)
    """Further arms by name: folders of refiners on the recipe's language model (`{"lora-64": "runs/b/refiner"}`)."""
    compare: str = ""
    """The arm that the table takes differences from; empty takes the first of `stage1`, `sspo`, `refiner` that is there.
    `results.json` has the differences of all pairs."""
    metric: Component = field(default_factory=Component)
    """The verifier whose score is reported; better not one that the loop listened to."""
    limit: int = 0
    """Number of prompts, from the start of the file, whatever their groups; 0 takes all."""
    seed: int = 1000
    """Seed of the videos, the same in every arm and other than the loop's, which runs on the recipe's own."""
    seeds: int = 3
    """Videos per prompt and arm, each with a seed of its own; a prompt's score is their mean (ours)."""
    flow_seconds: float = 0.5
    """Time between two frames of the optical flow that the metric sees (the authors' script)."""

    def __post_init__(self) -> None:
        """Checks ranges and names."""
        if self.limit < 0 or self.seeds < 1 or not self.flow_seconds > 0:
            raise ValueError(
                "`evaluation` needs limit >= 0, seeds >= 1 and flow_seconds > 0. Got "
                f"{self.limit}, {self.seeds} and {self.flow_seconds}."
            )
        own = [*self.baselines, *self.variants, *self.refiners]
        for name in own:
            if name in ARMS or own.count(name) > 1 or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise ValueError(
                    "A name in `evaluation.baselines`, `variants` or `refiners` must be a plain word of its own, other than "
                    f"{', '.join(ARMS)}. Got {name!r}; rename it."
                )
        unknown = [name for name in self.arms if name not in (*ARMS, *own)]
        if unknown or not self.arms or len(set(self.arms)) < len(self.arms):
            raise ValueError(
                f"`evaluation.arms` must name some of {', '.join((*ARMS, *own))}, each once. Got "
                f"{', '.join(map(repr, unknown or self.arms)) or 'none'}; correct the name, or add a baseline, a variant or a refiner."
            )
        if self.compare and self.compare not in self.arms:
            raise ValueError(
                f"`evaluation.compare` must be one of the arms ({', '.join(self.arms)}). Got {self.compare!r}; correct the "
                "name or leave it empty."
            )

    @property
    def compared(self) -> str:
        """The arm that differences are taken from; empty if there is none."""
        return self.compare or next((name for name in _COMPARED if name in self.arms), "")
