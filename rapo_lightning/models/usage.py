"""What asking a model costs: one `Call` per request, failed ones too, gathered by whoever wants to know.

A model that counts calls `note`; a caller that keeps the figures asks it inside `metered`. Nobody has to hand anything on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Call:
    """One request to a model.

    Attributes:
        item: Place in the batch of the conversation that it was made for.
        prompt_tokens: Tokens read, images included; None where nobody counted.
        completion_tokens: Tokens written; None where nobody counted.
        seconds: Time from asking to the answer or the failure.
        failed: Whether it gave no answer.
        remark: Why it failed, or what the answer lacks, such as log-probabilities.
    """

    item: int
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    failed: bool = False
    remark: str = ""


_METER: ContextVar[list[Call] | None] = ContextVar("meter", default=None)


@contextmanager
def metered() -> Iterator[list[Call]]:
    """Gathers the calls that models make inside; the innermost meter has them."""
    calls: list[Call] = []
    before = _METER.set(calls)
    try:
        yield calls
    finally:
        _METER.reset(before)


def note(calls: Sequence[Call]) -> None:
    """Adds calls to the meter, if there is one."""
    meter = _METER.get()
    if meter is not None:
        meter.extend(calls)


@contextmanager
def at_places(places: Sequence[int]) -> Iterator[None]:
    """For a batch that asks about some items of a larger one.

    Args:
        places: Place in the larger batch of each conversation that is asked inside.
    """
    with metered() as calls:
        yield
    note([replace(call, item=places[call.item]) for call in calls])


def calls_by_item(calls: Sequence[Call], by: str, count: int) -> list[list[dict[str, Any]]]:
    """Calls as they stand in rows, per item of a batch.

    Args:
        calls: What a meter gathered.
        by: Who asked.
        count: Number of items; a call of no known item is put with the last, so that sums are right.
    """
    found: list[list[dict[str, Any]]] = [[] for _ in range(count)]
    for call in calls:
        entry = {"by": by, **asdict(call), "seconds": round(call.seconds, 4)}
        found[min(entry.pop("item"), count - 1)].append(entry)
    return found
