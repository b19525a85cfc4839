"""What a filter of training pairs is, and the candidates that it chooses among."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...data.ranking import Ranking, known_score, mean_gap
from ...data.store import Row
from ...data.trajectory import score_columns

GIVEN_GAP = "gap"
"""Column of a ready pair's row with the `score_gap` of the view that it was exported in; no verifier's score."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A round whose text may become the answer to its request.

    Attributes:
        row: The round's row; of a ready pair, one with its two texts and what columns came with them.
        start: Round 0 of the same run; None for a ready pair.
        rounds: All rounds of the same prompt, in all runs.
        trajectory: What the rounds that compete have in common: the prompt's id, or a ready pair's own.
    """

    row: Row
    start: Row | None
    rounds: tuple[Row, ...]
    trajectory: str

    @property
    def prompt_id(self) -> str:
        """Identity of the prompt."""
        return str(self.row["prompt_id"])

    @property
    def request(self) -> str:
        """What the user wrote."""
        return str(self.row["source_prompt"])

    @property
    def text(self) -> str:
        """What it would be answered with."""
        return str(self.row["prompt"])

    @property
    def gap(self) -> float:
        """Mean score minus that of round 0, over the verifiers that scored both; NaN if none did; a ready pair's is what it came with."""
        return self.row.get(GIVEN_GAP, math.nan) if self.start is None else mean_gap(self.row, self.start)


class Reader(Protocol):
    """Reads texts, as far as somebody knows how to: in the lab by its captions' grammar."""

    def right(self, request: str, text: str) -> dict[str, bool]:
        """For each thing that a request names, whether the text names it and nothing else instead."""


@dataclass(frozen=True)
class Context:
    """What filters may ask beside their own parameters.

    Attributes:
        ranking: How the best round is found, `stage2.ranking`.
        captions: File with captions of the video model, `stage1.captions`; may be empty.
        reader: From `stage3.reader`; None where the recipe names none.
    """

    ranking: Ranking = field(default_factory=Ranking)
    captions: str = ""
    reader: Reader | None = None


class Filter(Protocol):
    """Chooses among candidates. What it keeps it leaves in order; the funnel counts the rest."""

    name: str
    """Name in the funnel."""
    verifiers: Sequence[str]
    """Verifiers whose scores it needs; a run or dataset without one of them is refused."""

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """The candidates that stay."""


def grouped(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Candidates by what they compete in."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.trajectory, []).append(candidate)
    return groups


def dominates(row: Row, other: Row) -> bool:
    """Whether a round scores at least as high by every verifier and higher by one (VPO's rule for pairs).

    A score that only one of both has is a verifier that cannot say so.
    """
    both = [(known_score(row, column), known_score(other, column)) for column in score_columns(row)]
    scored = [pair for pair in both if max(pair) > -math.inf]
    return all(min(pair) > -math.inf and pair[0] >= pair[1] for pair in scored) and any(a > b for a, b in scored)


def plain(text: str) -> str:
    """A text by which two that differ in case and spaces alone are one."""
    return " ".join(text.split()).casefold()
