"""What the filters leave, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...data.ranking import mean_score
from ...errors import UserError
from .by_score import Averaged
from .candidates import scored
from .filter import Candidate, Context, Filter


@dataclass(frozen=True)
class Step:
    """What was left after a filter; the first step has all candidates."""

    name: str
    kept: Sequence[Candidate]

    @property
    def prompts(self) -> int:
        """Number of prompts that have a candidate left."""
        return len({candidate.prompt_id for candidate in self.kept})


@dataclass(frozen=True)
class Funnel:
    """Where candidates came from and what became of them.

    Attributes:
        source: Names of the runs, or of the file or dataset of ready pairs.
        steps: The first with all candidates, then one a filter.
        incomplete: Rows of ready pairs that lacked a text.
        recipe_hashes: Of the trajectories; none for ready pairs.
    """

    source: str
    steps: Sequence[Step]
    incomplete: int = 0
    recipe_hashes: Sequence[str] = field(default=())

    @property
    def kept(self) -> Sequence[Candidate]:
        """What all filters left."""
        return self.steps[-1].kept

    @property
    def pool(self) -> Sequence[Candidate]:
        """What there was to choose among: all candidates, with mean scores where the first filter is `averaged`."""
        return self.steps[1 if len(self.steps) > 1 and self.steps[1].name == Averaged.name else 0].kept

    def __str__(self) -> str:
        """One line."""
        first, *rest = self.steps
        left = ", ".join(f"{step.name} {len(step.kept)}" for step in rest)
        dropped = f", {self.incomplete} incomplete rows left out" if self.incomplete else ""
        kind = f"{len(first.kept)} rounds" if self.recipe_hashes else f"{len(first.kept)} ready pairs"
        return (
            f"{len(self.kept)} pairs from {first.prompts} prompts ({kind} of {self.source}{dropped}"
            f"{'; left after ' + left if left else ''})"
        )


def select(candidates: Sequence[Candidate], filters: Sequence[Filter], context: Context) -> list[Step]:
    """Puts candidates through filters.

    Raises:
        UserError: If a filter needs a score that none of the candidates has, or cannot work as it is set.
    """
    known = scored([candidate.row for candidate in candidates])
    steps = [Step("all", candidates)]
    for item in filters:
        missing = [name for name in item.verifiers if name not in known]
        if missing:
            raise UserError(
                f"`{item.name}` needs scores of {', '.join(missing)}. Got data with {', '.join(known) or 'no scores'}; let `collect` "
                "score the videos with it, or take it out of `stage3.pairs`."
            )
        steps.append(Step(item.name, item.keep(steps[-1].kept, context)))
    return steps


def refuse_none(funnel: Funnel) -> None:
    """Raises UserError, with the filter that took the last candidates, if none are left."""
    if funnel.kept:
        return
    place = next(number for number, step in enumerate(funnel.steps) if not step.kept)
    before, taker = funnel.steps[place - 1], funnel.steps[place]
    everything = funnel.steps[0].kept
    equal = all(len({mean_score(row) for row in candidate.rounds}) == 1 for candidate in everything)
    way_out = "relax it in `stage3.pairs`, or collect more"
    if funnel.recipe_hashes and not scored([candidate.row for candidate in everything]):
        way_out = "no round has a score, so let `collect` score the videos"
    elif funnel.recipe_hashes and equal:
        way_out = "all rounds of a prompt score the same, so add a verifier that tells them apart"
    raise UserError(
        f"Fine-tuning needs pairs. Got none: `{taker.name}` took the last {len(before.kept)}, of {before.prompts} prompts, of "
        f"{len(funnel.steps[0].kept)} rows in {funnel.source}; {way_out}."
    )
