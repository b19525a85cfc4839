"""The rewards of a recipe, added up, and checked whenever they are asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...errors import RunError
from ...prompting.answers import Refined
from .base import Reward, RewardTools


class WeightedRewards:
    """The weighted sum of rewards."""

    def __init__(self, parts: Sequence[tuple[Reward, float]], tools: RewardTools) -> None:
        """Takes the rewards.

        Args:
            parts: Rewards with their weights.
            tools: What they may use.
        """
        self.parts, self.tools = list(parts), tools

    def uses(self, role: str) -> bool:
        """Whether a reward borrows a model of the recipe, such as `embedder`."""
        return any(role in part.uses for part, _ in self.parts)

    def each(self, refined: Sequence[Refined]) -> dict[str, list[float]]:
        """What each reward says of each prompt.

        Raises:
            RunError: If one raises, or says something that is no number.
        """
        return {part.name: self._asked(part, refined) for part, _ in self.parts}

    def total(self, each: dict[str, list[float]]) -> list[float]:
        """The weighted sums, one for each prompt.

        Args:
            each: From `each`.
        """
        weighted = [[weight * value for value in each[part.name]] for part, weight in self.parts]
        return [sum(values) for values in zip(*weighted, strict=True)]

    def _asked(self, part: Reward, refined: Sequence[Refined]) -> list[float]:
        try:
            found = [float(value) for value in part.rewards(refined, self.tools)]
        except RunError:
            raise
        except Exception as error:
            # A reward may be anybody's code.
            raise RunError(
                f"The reward `{part.name}` raised {type(error).__name__}: {' '.join(str(error).split())[:300].rstrip('.')}. "
                "Correct it and run the same command again: the training goes on from its last checkpoint."
            ) from error
        if len(found) != len(refined):
            raise RunError(
                f"The reward `{part.name}` must give one number for each of {len(refined)} prompts. Got {len(found)}; correct "
                "it and run the same command again: the training goes on from its last checkpoint."
            )
        wrong = next((item for item, value in zip(refined, found, strict=True) if not math.isfinite(value)), None)
        if wrong is not None:
            raise RunError(
                f"The reward `{part.name}` must give finite numbers. Got none for {wrong.refined[:120]!r}; correct it and run "
                "the same command again: the training goes on from its last checkpoint."
            )
        return found
