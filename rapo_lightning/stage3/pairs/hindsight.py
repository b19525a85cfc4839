"""Pairs in hindsight: a video is what its text asks for, whatever was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UserError
from ...prompting.judging import shown_in
from ...prompting.text import words
from .filter import Candidate, plain
from .funnel import Step

NAME = "hindsight"


def hindsight(candidates: Sequence[Candidate], least: float) -> list[Candidate]:
    """Of each prompt the round that fits best what the judge saw, with that in the place of the request; a pair of texts once.

    After hindsight experience replay (Andrychowicz et al. 2017, arXiv:1707.01495), where a failed try is a success at what it
    reached. The judge says what a video shows before it sees the request, so its words are not the request's. Scores and gaps are left
    out, since they are of the request.

    Args:
        candidates: Rounds.
        least: Least share of the description's words that a text must have: where the video model did not follow the text, or the
            video shows nothing that can be named, the two have little in common.

    Raises:
        UserError: If no critique says apart what the video shows.
    """
    seen = [shown_in(str(item.row.get("critique") or "")) for item in candidates]
    if candidates and not any(seen):
        raise UserError(
            "`stage3.hindsight` needs critiques that say what a video shows, as those of `VlmAlignment` do. Got none in the rounds; "
            "collect with that verifier, or set it to 0."
        )
    best: dict[str, tuple[float, Candidate]] = {}
    for item, shown in zip(candidates, seen, strict=True):
        share = shared(shown, item.text)
        if shown and share >= least and share > best.get(item.trajectory, (0.0,))[0]:
            row = {name: value for name, value in item.row.items() if not name.startswith("score_")}
            row["source_prompt"] = shown
            best[item.trajectory] = share, Candidate(row, None, (row,), f"{NAME} {item.trajectory}")
    pairs = (item for _, item in best.values())
    return list({(plain(item.request), plain(item.text)): item for item in pairs}.values())


def shared(shown: str, text: str) -> float:
    """Share of the words of a description that a text has as well."""
    own = set(words(shown))
    return len(own & set(words(text))) / len(own) if own else 0.0


def with_hindsight(steps: Sequence[Step], least: float) -> list[Step]:
    """The filters' steps, and one more that adds the pairs in hindsight of all rounds; as they were where `least` is 0."""
    if not least:
        return list(steps)
    return [*steps, Step(NAME, [*steps[-1].kept, *hindsight(steps[0].kept, least)])]
