"""What a video is made from: a choice of one text per prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..data.prompts import Prompt
from ..models import Residency

PromptChooser = Callable[[Sequence[Prompt], Residency], dict[str, str]]
"""(prompts, who moves models) to the text of each, by prompt id."""


def choose_from(texts: Mapping[str, str]) -> PromptChooser:
    """A chooser of texts that are known already, by prompt id."""
    return lambda batch, residency: {prompt.id: texts[prompt.id] for prompt in batch}
