"""How much of a request is in a refined prompt: by an embedder, or by a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeGuard

from ..checkpoints import identity
from ..errors import UserError
from .base import Embedder

FAITHFUL = 0.3
"""Least faithfulness of a refined prompt (ours, as `stage1.faithfulness`): a cosine below it is another request."""
Faithfulness = Embedder | Callable[[str, str], float]
"""An embedder, whose cosine counts, or a function of request and prompt, higher for more faithful."""


def check_measure(measure: object) -> None:
    """Checks what is to tell how faithful a prompt is.

    Raises:
        UserError: If it is neither an embedder, as `base.Embedder` says, nor a function.
    """
    if not _embeds(measure) and (hasattr(measure, "encode") or not callable(measure)):
        raise UserError(
            "`faithfulness` must be an embedder with `load` and `encode`, such as `SentenceEmbedder`, or a function of request "
            f"and prompt. Got {type(measure).__name__}; give one of these."
        )


def _embeds(measure: object) -> TypeGuard[Embedder]:
    return hasattr(measure, "encode") and hasattr(measure, "load")


def faithfulness_of(measure: Faithfulness, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """How faithful prompts are to their requests.

    Args:
        measure: An embedder or a function.
        pairs: Request and prompt.

    Returns:
        One figure for each pair; of an embedder the cosine, -1..1.
    """
    if not pairs:
        return []
    if _embeds(measure):
        requests, prompts = (measure.encode([pair[side] for pair in pairs]) for side in (0, 1))
        return [float(cosine) for cosine in (requests * prompts).sum(axis=1)]
    assert callable(measure)
    return [float(measure(request, prompt)) for request, prompt in pairs]


def faithfulness_identity(measure: Faithfulness | None) -> str:
    """What tells one measure from another: an embedder's weights, the name of a function or of its class; empty for none."""
    if measure is None:
        return ""
    of = measure if hasattr(measure, "__qualname__") else type(measure)
    name = f"{of.__module__}.{of.__qualname__}"
    return f"{name}@{identity(measure.name)}" if _embeds(measure) else name
