"""How a round follows from the rounds before it: the loop's own way, and the controls it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..data.ids import derived_seed
from ..data.store import Row
from ..prompting.examples import Example
from ..recipe import Stage2


@dataclass(frozen=True)
class Strategy:
    """What changes from round to round, and what the rewriter is told.

    Attributes:
        name: Its name; part of the identity of rows and rewrites.
        rewrites: Whether the language model writes the next prompt; if not, rounds differ by their video's seed alone.
        listens: Whether it is told what was seen so far: critiques, scores of earlier rewrites, physics.
    """

    name: str
    rewrites: bool = True
    listens: bool = True

    def seed(self, seed: int, prompt_id: str, number: int) -> int:
        """Seed of a round's video."""
        # One seed for all rounds of a prompt, as in the authors' script: rounds differ by their prompt alone.
        return derived_seed(seed, prompt_id) if self.rewrites or not number else derived_seed(seed, prompt_id, number)

    def settings(self, stage2: Stage2) -> Stage2:
        """The loop's settings as this strategy uses them."""
        return stage2 if self.listens else replace(stage2, memory=0, memory_tokens=0, physics="off")

    def examples(self, examples: Sequence[Example]) -> list[Example]:
        """The examples; without their critiques where there is none to answer either."""
        return [item if self.listens else replace(item, critique="") for item in examples]

    def told(self, history: Sequence[Row]) -> list[Row]:
        """What a rewrite is made from; texts that were tried are never hidden, since repeating one wastes a video."""
        return [row if self.listens else {**row, "critique": "", "restated": ""} for row in history]


SSPO = Strategy("sspo")
"""The closed loop."""
BLIND = Strategy("blind", listens=False)
"""Rewrites of the user's prompt that know nothing of the videos (a control, ours)."""
SEEDS = Strategy("seeds", rewrites=False, listens=False)
"""The first prompt again, each time with another seed (a control, ours)."""
