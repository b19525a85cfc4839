"""Filters that look at scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from ...data.ranking import best_round, known_score, reaches
from ...data.store import Row
from ...data.trajectory import score_columns
from ...errors import UserError
from .filter import Candidate, Context, dominates, grouped


def _finite(filter_name: str, **values: float) -> None:
    if not all(map(math.isfinite, values.values())):
        told = ", ".join(f"{name}={value}" for name, value in values.items())
        raise UserError(f"`{filter_name}` needs numbers, or no pair would pass. Got {told}; correct the number.")


class Averaged:
    """One candidate for each text, scored by the mean over its videos of several seeds and runs (ours).

    The best of many noisy scores is partly luck; the best mean is less so. A video that several runs share counts once. Must
    come first.
    """

    name = "averaged"
    verifiers: Sequence[str] = ()

    def __init__(self, videos: int = 1) -> None:
        """Sets how many videos make a mean.

        Args:
            videos: Least number of videos of a text.
        """
        if videos < 1:
            raise UserError(f"`averaged` needs videos >= 1. Got {videos}; correct the number.")
        self.videos = videos

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """See `Filter`; the first candidate of each text stays, with the means."""
        kept = []
        for group in grouped(candidates).values():
            videos: dict[str, list[Row]] = {}
            for row in group[0].rounds:
                videos.setdefault(row["prompt"], []).append(row)
            once = {text: _of_seeds(rows) for text, rows in videos.items()}
            mean = {text: _mean(rows) for text, rows in once.items()}
            first = {candidate.text: candidate for candidate in reversed(group)}
            for candidate in group:
                if first[candidate.text] is candidate and len(once[candidate.text]) >= self.videos:
                    start = None if candidate.start is None else mean[candidate.start["prompt"]]
                    kept.append(Candidate(mean[candidate.text], start, tuple(mean.values()), candidate.trajectory))
        return kept


def _of_seeds(rows: Sequence[Row]) -> list[Row]:
    """Rows of one text, each seed once; a seed that is not known is one by itself."""
    known: dict[object, Row] = {}
    for place, row in enumerate(rows):
        seed = row.get("seed")
        known.setdefault(("unknown", place) if seed is None else seed, row)
    return list(known.values())


def _mean(rows: Sequence[Row]) -> Row:
    means: Row = {}
    for column in score_columns(rows[0]):
        scores = [score for row in rows if (score := known_score(row, column)) > -math.inf]
        means[column] = fmean(scores) if scores else None
    return {**rows[0], **means}


class Winner:
    """The winner of Average Ranking over the rounds of a prompt that are left (RAPO++, section 4.1), by `stage2.ranking`."""

    name = "winner"
    verifiers: Sequence[str] = ()

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """See `Filter`."""
        kept = []
        for group in grouped(candidates).values():
            best = best_round([candidate.row for candidate in group], context.ranking)
            kept += [candidate for candidate in group if candidate.row is best]
        return kept


class Margin:
    """What is another text than the user's and scores more than round 0 by a margin (Prompt-A-Video asks for a gap; ours here).

    A loop that starts from a rewrite, as stage 1's, has no video of the user's prompt and may have had its best prompt before it
    began: there any other text will do, and so for ready pairs.
    """

    name = "margin"
    verifiers: Sequence[str] = ()

    def __init__(self, least: float = 0.0) -> None:
        """Sets the margin.

        Args:
            least: The mean over the verifiers that scored both must exceed that of round 0 by more than this.
        """
        _finite("margin", least=least)
        self.least = least

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """See `Filter`."""
        return [candidate for candidate in candidates if self._beats(candidate)]

    def _beats(self, candidate: Candidate) -> bool:
        starts_raw = candidate.start is not None and candidate.start["prompt"] == candidate.request
        # Where no verifier scored both, the gap is no number, and nothing says that the round is better.
        return candidate.text != candidate.request and (not starts_raw or candidate.gap > self.least)


class Pareto:
    """What dominates round 0: no verifier scores it lower and one scores it higher, with a gap of the means (VPO)."""

    name = "pareto"
    verifiers: Sequence[str] = ()

    def __init__(self, gap: float = 0.0) -> None:
        """Sets the gap.

        Args:
            gap: The mean over the verifiers that scored both must exceed that of round 0 by more than this (VPO: 0.5 on its
                own scale).
        """
        _finite("pareto", gap=gap)
        self.gap = gap

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """See `Filter`."""
        if any(candidate.start is None for candidate in candidates):
            raise UserError("`pareto` compares with round 0. Got ready pairs, which have none; leave it out.")
        return [item for item in candidates if item.start and dominates(item.row, item.start) and item.gap > self.gap]


class Floors:
    """What reaches a least score by each verifier named (Prompt-A-Video has such floors); a score that is missing reaches none."""

    name = "floors"

    def __init__(self, least: dict[str, float]) -> None:
        """Sets the floors.

        Args:
            least: Least score by verifier.
        """
        _finite("floors", **least)
        self.least = least
        self.verifiers: Sequence[str] = list(least)

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """See `Filter`."""
        return [
            item for item in candidates if all(reaches(item.row, name, least) for name, least in self.least.items())
        ]
