"""The turn that asks a fine-tuned rewriter for another prompt: the request, and what was tried and seen so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .text import one_line

TRIED, SEEN = "Tried: ", "Seen: "


class Attempt(NamedTuple):
    """A prompt that a video was made from.

    Attributes:
        prompt: The prompt; empty where it is not to be shown.
        critique: What was seen, and what of the request was missing or wrong.
        score: How good the video was; by it attempts are dropped where there are too many.
    """

    prompt: str
    critique: str
    score: float = 0.0


def kept_attempts(attempts: Sequence[Attempt], most: int) -> list[Attempt]:
    """The attempts that a turn has room for, in the order in which they should be read: the best one last.

    The worst are dropped first, of equal ones the oldest: what is nearest to the goal is what the next prompt starts from
    (historical backtracking).

    Args:
        attempts: All attempts, the oldest first.
        most: How many to keep.
    """
    order = sorted(range(len(attempts)), key=lambda index: (attempts[index].score, index))
    return [attempts[index] for index in order[max(0, len(order) - most) :]]


def revision_turn(request: str, attempts: Sequence[Attempt]) -> str:
    """The user's turn; without attempts it is the request alone, as stage 1's rewriter reads it.

    Args:
        request: The user's prompt.
        attempts: What was tried, in the order to be shown.
    """
    return "\n".join([one_line(request), *attempt_lines(attempts)])


def attempt_lines(attempts: Sequence[Attempt]) -> list[str]:
    """The lines of attempts in a turn; one without a prompt has only what was seen."""
    lines: list[str] = []
    for attempt in attempts:
        lines += [TRIED + one_line(attempt.prompt)] if attempt.prompt else []
        lines.append(SEEN + one_line(attempt.critique))
    return lines
