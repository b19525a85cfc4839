"""A reward by video: the recipe's video model draws the prompt, and the loop's verifiers judge it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..data.ids import derived_seed
from ..data.prompts import Prompt
from ..data.records import Records
from ..data.videos import VideoStore
from ..prompting.answers import Refined
from ..recipe.identity import component_identity
from ..stage2.judges import build_judges
from ..stage2.row import round_row
from ..stage2.screening import Screening, Take
from ..stage3.pairs.views import voted_mean
from ..stage3.rewards import RewardTools


class VideoReward:
    """Mean score by the votes of `stage2.ranking` of the verifiers of `stage2.verifiers` (the reward of PhyPrompt and PromptRL).

    A prompt of a request always has the same seeds, so that a group is compared on its words; videos and judgements are
    recorded in the run's folder and never made twice.
    """

    name = "video"
    uses: Sequence[str] = ("video_model", "vision_language_model", "embedder")

    def __init__(self, seeds: int = 1) -> None:
        """Sets the number of videos.

        Args:
            seeds: Videos of each prompt; their scores are averaged.
        """
        self.seeds = max(1, seeds)
        self._screening: Screening | None = None

    def rewards(self, refined: Sequence[Refined], tools: RewardTools) -> list[float]:
        """See `Reward`; a video that cannot be judged is worth nothing."""
        screening, seed = self._opened(tools), tools.recipe.seed
        takes = [
            Take(prompt, item.refined, derived_seed(seed, prompt.id, number))
            for item in refined
            for prompt in [Prompt(item.prompt)]
            for number in range(self.seeds)
        ]
        size, names = tools.recipe.stage2.batch_size, tools.models.names
        scores: list[float] = []
        for start in range(0, len(takes), size):
            part = takes[start : start + size]
            rows = [round_row(take, item, names, "") for take, item in zip(part, screening.run(part), strict=True)]
            scores += [max(0.0, voted_mean(row, tools.recipe.stage2.ranking)) for row in rows]
        return [sum(scores[i : i + self.seeds]) / self.seeds for i in range(0, len(scores), self.seeds)]

    def _opened(self, tools: RewardTools) -> Screening:
        if self._screening is None:
            recipe = tools.recipe
            rank = int(os.environ.get("RANK", "0"))
            self._screening = Screening(
                tools.models, build_judges(recipe), component_identity(recipe.video_model), Records(tools.folder, rank),
                VideoStore(tools.folder), recipe.stage2.flow_seconds, False, record_flow=False,
            )  # fmt: skip
        return self._screening
