"""Filters that look at the pairs together."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

from ...data.ranking import mean_score
from ...errors import UserError
from .filter import Candidate, Context, plain


class Distinct:
    """Each pair of texts once, whatever its law, run, case or spaces; the first stays (ours)."""

    name = "distinct"
    verifiers: Sequence[str] = ()

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """See `Filter`."""
        first: dict[tuple[str, str], Candidate] = {}
        for candidate in candidates:
            first.setdefault((plain(candidate.request), plain(candidate.text)), candidate)
        return list(first.values())


class Balance:
    """No prompt, and no group, has the say of many (VPO: at most one pair a query; equal groups are ours)."""

    name = "balance"
    verifiers: Sequence[str] = ()

    def __init__(self, most: int = 1, groups: str = "") -> None:
        """Sets the balance.

        Args:
            most: Most pairs of a request, those with the highest mean scores, the first on a tie; 0 sets no limit.
            groups: Column, such as `phys_law`, each value of which may have as many pairs as the rarest; which of them is decided
                by a hash of the texts. Empty makes no groups.
        """
        if most < 0 or not (most or groups):
            raise UserError(f"`balance` needs most >= 1, or groups. Got {most} and {groups!r}; set one of them.")
        self.most, self.groups = most, groups

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """See `Filter`."""
        kept = self._per_request(candidates) if self.most else list(candidates)
        return self._per_group(kept) if self.groups and kept else kept

    def _per_request(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        requests: defaultdict[str, list[Candidate]] = defaultdict(list)
        for candidate in candidates:
            requests[plain(candidate.request)].append(candidate)
        chosen = {
            id(item)
            for group in requests.values()
            for item in sorted(group, key=lambda candidate: -mean_score(candidate.row))[: self.most]
        }
        return [candidate for candidate in candidates if id(candidate) in chosen]

    def _per_group(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        if not all(self.groups in candidate.row for candidate in candidates):
            columns = sorted(set.intersection(*(set(candidate.row) for candidate in candidates)))
            raise UserError(
                f"`balance` needs the column that `groups` names. Got {self.groups!r}, and rows with {', '.join(columns)}; "
                "name one of them."
            )
        sizes = Counter(candidate.row[self.groups] for candidate in candidates)
        least, taken = min(sizes.values()), Counter[object]()
        chosen = set()
        for candidate in sorted(candidates, key=_hash):
            taken[candidate.row[self.groups]] += 1
            if taken[candidate.row[self.groups]] <= least:
                chosen.add(id(candidate))
        return [candidate for candidate in candidates if id(candidate) in chosen]


def _hash(candidate: Candidate) -> str:
    return hashlib.sha256(f"{candidate.request}\x1f{candidate.text}".encode()).hexdigest()
