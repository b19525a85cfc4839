"""What a vision-language judge is asked, in two turns, and how its second answer is read.

The judge says what a video shows before it sees the request: shown the request first, a small judge repeats it.
"""

from __future__ import annotations

import re

from .text import words

LOOK = "Say what the video shows."
"""The first turn, after the video."""
COMPARE = "Request: {request}\nSay what the request asks for, what of it is missing or wrong in the video, and a score from 1 to 5."
"""The second turn."""
SCORES = (1, 2, 3, 4, 5)
SCORE_MARK = "Score: "
"""Stands before the score in a judge's second answer."""
MISSING = "Missing or wrong: "
"""Stands before what a judge finds missing or wrong, where it was trained to say so."""
COMPARED = "Compared with the request: "
"""Stands in a critique before the second answer of a judge that does not say that apart."""
_SHOWS = re.compile(r"(this|the) (video|clip) shows\s+", re.IGNORECASE)
_ASKS = re.compile(r"(it|the request) asks for\s+", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[a-z0-9)\"']{4}[.!?])\s+")
"""The end of a sentence; behind shorter words a full stop may be an abbreviation's."""
_VIDEO = re.compile(r"\b(video|clip)\b", re.IGNORECASE)
_SCORE = re.compile(r"\bscore\b", re.IGNORECASE)


def second_turn(request: str) -> str:
    """The second turn's text for a user's request, which is put on one line."""
    return COMPARE.format(request=" ".join(request.split()))


def before_score(answer: str) -> str:
    """What a judge says before it begins to give a score; all of it where it gives none.

    A request may be for a musical score, so where a judge says apart what is missing it is looked for behind that.
    """
    found = _SCORE.search(answer, max(answer.find(MISSING), 0))
    return (answer[: found.start()] if found else answer).strip()


def up_to_score(answer: str) -> str:
    """What a judge says before it begins to give a score, and the mark that stands before one."""
    return f"{before_score(answer)} {SCORE_MARK}".lstrip()


def critique_of(shown: str, compared: str) -> str:
    """What the rewriter is told: what the video shows, and what of the request is missing or wrong.

    Where a judge says that apart (`MISSING`), its own reading of the request before it is left out: a rewriter is told what was
    seen, not what the request means.

    Args:
        shown: The judge's first answer.
        compared: Its second answer up to the score.
    """
    before, mark, wrong = compared.partition(MISSING)
    told = mark + wrong if mark else f"{COMPARED}{before}" if before else ""
    return " ".join(part for part in (shown, told) if part)


def restated_in(compared: str) -> str:
    """The request in a judge's words; empty where its answer does not begin with that, or goes on to the video in the same sentence.

    Where it says apart what is missing (`MISSING`) all before that is the request, else the first sentence.

    Args:
        compared: A judge's second answer up to the score.
    """
    start = _ASKS.match(compared)
    if not start:
        return ""
    asked, mark, _ = compared[start.end() :].partition(MISSING)
    if not mark:
        asked = _SENTENCE.split(asked)[0]
        asked = "" if _VIDEO.search(asked) else asked
    return asked.rstrip(". ") if words(asked) else ""


def shown_in(critique: str) -> str:
    """What a video shows by a critique from `critique_of`, as one would ask for it; empty where the critique does not say that apart.

    Args:
        critique: Of one verifier or of several; the first that says it counts.
    """
    found = [place for mark in (MISSING, COMPARED) if (place := critique.find(mark)) >= 0]
    shown = critique[: min(found)].strip() if found else ""
    start = _SHOWS.search(shown)
    return (shown[start.end() :] if start else shown).rstrip(". ")
