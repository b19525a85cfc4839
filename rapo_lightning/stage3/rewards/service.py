"""A reward that another process computes, behind a URL."""

from __future__ import annotations

import time
from collections.abc import Sequence

import httpx

from ...errors import RunError, UserError
from ...prompting.answers import Refined
from .base import RewardTools


class Service:
    """A reward by URL, such as a video model and its judge on another machine (as PromptRL's rewards are).

    It is asked with `POST` and the JSON `{"requests": [...], "prompts": [...]}`, and answers `{"rewards": [...]}`.
    """

    name = "service"
    uses: Sequence[str] = ()

    def __init__(self, url: str, timeout: float = 600.0, tries: int = 4) -> None:
        """Takes the address.

        Args:
            url: Where to ask.
            timeout: Seconds for an answer.
            tries: How often a request that failed is tried in all, after 1, 2, 4 ... seconds.
        """
        if not url.startswith(("http://", "https://")) or timeout <= 0 or tries < 1:
            raise UserError(
                f"The reward `service` needs an http(s) url, timeout > 0 and tries >= 1. Got {url!r}, {timeout} and {tries}; "
                "correct them."
            )
        self.url, self.timeout, self.tries = url, timeout, tries

    def rewards(self, refined: Sequence[Refined], tools: RewardTools) -> list[float]:
        """See `Reward`.

        Raises:
            RunError: If the service does not answer, or not as it should.
        """
        asked = {"requests": [item.prompt for item in refined], "prompts": [item.refined for item in refined]}
        problem = ""
        for attempt in range(self.tries):
            if attempt:
                time.sleep(2 ** (attempt - 1))
            try:
                answer = httpx.post(self.url, json=asked, timeout=self.timeout).raise_for_status().json()
                return [float(value) for value in answer["rewards"]]
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise RunError(
            f'The reward service at {self.url} must answer {{"rewards": [...]}}. Got {problem} after {self.tries} tries; start '
            "it, and run the same command again to go on."
        )
