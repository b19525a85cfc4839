"""Made-up rounds, candidates and funnels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rapo_lightning.data.ranking import Ranking
from rapo_lightning.data.store import Row
from rapo_lightning.recipe import Stage3
from rapo_lightning.recipe.pairs import build_filters
from rapo_lightning.stage3.pairs import Candidate, Context, Funnel, PairViews
from rapo_lightning.stage3.pairs.candidates import trajectory_candidates
from rapo_lightning.stage3.pairs.funnel import select
from tests.data.test_trajectory import make_row


def trajectory(
    request: str, *scores: tuple[float | None, float | None], texts: Sequence[str] = (), **more: Any
) -> list[Row]:
    """A prompt's rounds: the first from the request itself, the others from `texts` or "better"."""
    told = [request, *texts, *["better"] * len(scores)]
    return [
        make_row(request, number, a, b, source_prompt=request, prompt=told[number], **more)
        for number, (a, b) in enumerate(scores)
    ]


def candidates(*trajectories: list[Row]) -> list[Candidate]:
    return trajectory_candidates({"run": [row for rows in trajectories for row in rows]})


def kept(found: Sequence[Candidate], *filters: dict[str, Any], context: Context | None = None) -> list[tuple[str, str]]:
    """Request and text of what filters keep."""
    steps = select(found, build_filters(Stage3(pairs=list(filters))), context or Context())
    return [(candidate.request, candidate.text) for candidate in steps[-1].kept]


def views(rows: Sequence[Row], stage3: Stage3, ranking: Ranking | None = None) -> PairViews:
    ranking = ranking or Ranking()
    steps = select(trajectory_candidates({"run": rows}), build_filters(stage3), Context(ranking))
    return PairViews(Funnel("run", steps, recipe_hashes=["h"]), stage3, ranking)
