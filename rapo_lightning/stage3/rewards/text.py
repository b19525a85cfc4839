"""Rewards that look at texts alone; they cost no video."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UserError
from ...models.faithfulness import faithfulness_of
from ...models.reward_model import RewardModel
from ...prompting.answers import Refined
from ...prompting.text import words
from .base import RewardTools


class Faithfulness:
    """How much of the request is in the prompt (WanPE, PhyPrompt and RePrompt reward it; the measures are ours)."""

    name = "faithfulness"

    def __init__(self, by: str = "embedder") -> None:
        """Chooses the measure.

        Args:
            by: `embedder` for the cosine of both texts by the recipe's embedder, -1..1; `reader` for the share of what the
                request names that `stage3.reader` finds in the prompt, 0..1.
        """
        if by not in ("embedder", "reader"):
            raise UserError(f"The reward `faithfulness` is by `embedder` or `reader`. Got {by!r}; choose one.")
        self.by = by
        self.uses: Sequence[str] = ("embedder",) if by == "embedder" else ()

    def rewards(self, refined: Sequence[Refined], tools: RewardTools) -> list[float]:
        """See `Reward`."""
        if self.by == "embedder":
            return faithfulness_of(tools.models.embedder, [(item.prompt, item.refined) for item in refined])
        return [_share(tools.reader.right(item.prompt, item.refined)) for item in refined]


def _share(right: dict[str, bool]) -> float:
    return sum(right.values()) / len(right) if right else 1.0


class Length:
    """1 for a prompt of a length in words that is wanted, falling to 0 with its distance (RePrompt rewards length too)."""

    name = "length"
    uses: Sequence[str] = ()

    def __init__(self, least: int = 15, most: int = 120) -> None:
        """Sets the range.

        Args:
            least: Fewest words (ours).
            most: Most words (PhyT2V's limit).
        """
        if not 0 < least <= most:
            raise UserError(f"The reward `length` needs 0 < least <= most. Got {least} and {most}; correct them.")
        self.least, self.most = least, most

    def rewards(self, refined: Sequence[Refined], tools: RewardTools) -> list[float]:
        """See `Reward`."""
        counts = [len(words(item.refined)) for item in refined]
        return [min(1.0, count / self.least, self.most / max(count, 1)) for count in counts]


class Usable:
    """1 for an answer that can be used as a prompt, else 0: empty, repeating itself, thinking aloud, talking to the user."""

    name = "usable"
    uses: Sequence[str] = ()

    def rewards(self, refined: Sequence[Refined], tools: RewardTools) -> list[float]:
        """See `Reward`."""
        return [0.0 if item.fell_back else 1.0 for item in refined]


class Model:
    """What a trained reward model says (`finetune --stage3.objective reward`)."""

    name = "model"
    uses: Sequence[str] = ()

    def __init__(self, folder: str, batch_size: int = 16) -> None:
        """Reads its folder; weights are loaded on first use.

        Args:
            folder: A run's `reward` folder.
            batch_size: Prompts per forward pass.
        """
        self.model = RewardModel(folder, batch_size)

    def rewards(self, refined: Sequence[Refined], tools: RewardTools) -> list[float]:
        """See `Reward`."""
        return self.model.scores([(item.prompt, item.refined) for item in refined])
