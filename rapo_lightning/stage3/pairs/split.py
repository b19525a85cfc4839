"""Which prompts are for training and which for validation; no text is on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ...errors import UserError
from .filter import Candidate, plain
from .ready import SPLIT


def is_validation(identity: str, share: float) -> bool:
    """Whether a prompt belongs to the validation side; by its identity, so it stays there when data is added."""
    return int(hashlib.sha256(identity.encode()).hexdigest()[:8], 16) / 2**32 < share


class Split:
    """The sides of all requests. A text that has several laws, and so identities, is on one side with all of them."""

    def __init__(self, pool: Sequence[Candidate], kept: Sequence[Candidate], share: float) -> None:
        """Decides the sides.

        Args:
            pool: All candidates.
            kept: Those that are trained on: neither side of theirs is empty if they have two requests and share is not 0.
            share: Share of the requests for validation; a dataset that has its own splits keeps them.

        Raises:
            UserError: If a dataset has a request in both of its splits.
        """
        identities: dict[str, str] = {}
        for candidate in pool:
            request = plain(candidate.request)
            identities[request] = min(candidate.prompt_id, identities.get(request, candidate.prompt_id))
        given = _given(pool)
        self._validation = (
            {request for request, split in given.items() if split == "validation"}
            if given
            else {request for request, identity in identities.items() if is_validation(identity, share)}
        )
        if not given and share:
            self._fill_both_sides(list(dict.fromkeys(plain(candidate.request) for candidate in kept)))

    def _fill_both_sides(self, requests: list[str]) -> None:
        held_out = [request for request in requests if request in self._validation]
        if len(requests) == 1:
            self._validation -= set(requests)
        elif requests and len(held_out) in (0, len(requests)):
            self._validation = (self._validation - set(requests)) | {requests[0]}

    def is_validation(self, candidate: Candidate) -> bool:
        """Whether a candidate is held out."""
        return plain(candidate.request) in self._validation


def _given(pool: Sequence[Candidate]) -> dict[str, str]:
    """The split of each request in a dataset that has them."""
    sides: dict[str, str] = {}
    for candidate in pool:
        split = candidate.row.get(SPLIT)
        if split and sides.setdefault(plain(candidate.request), split) != split:
            raise UserError(
                "A prompt must not be in training and validation both, or the validation loss says nothing. Got "
                f"{candidate.request[:80]!r} in both; take it out of one."
            )
    return sides
