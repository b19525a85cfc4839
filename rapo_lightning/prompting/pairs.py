"""A training pair of a refiner."""

from __future__ import annotations

from dataclasses import dataclass

from .chat import Messages


@dataclass(frozen=True)
class SftPair:
    """A conversational prompt and completion.

    Attributes:
        prompt: System and user turn.
        completion: One assistant turn.
        score_gap: Mean score of the winner minus that of round 0.
        prompt_id: Identity of the prompt.
    """

    prompt: Messages
    completion: Messages
    score_gap: float
    prompt_id: str
