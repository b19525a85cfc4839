"""The row of a video that was made and judged."""

from __future__ import annotations

from collections.abc import Mapping

from ..data.store import Row
from .judgements import Screened, Take, judgement_columns


def round_row(take: Take, item: Screened, names: Mapping[str, str], recipe_hash: str) -> Row:
    """The row of a take, as the join of its records; it has no rewrite yet.

    Args:
        take: The take.
        item: What is known of it.
        names: Names of the models by role.
        recipe_hash: What the row is made by.
    """
    return {
        "prompt_id": take.prompt.id,
        "source_prompt": take.prompt.text,
        "phys_law": take.prompt.phys_law,
        "round": take.round,
        "prompt": take.text,
        "seed": take.seed,
        "video": item.generation.get("video", ""),
        **judgement_columns(item.judgements),
        "physics": "",
        "next_prompt": "",
        "shortened": "",
        "ended": "",
        "shortcuts": item.generation.get("shortcuts", ""),
        "video_model": names["video_model"],
        "vision_language_model": names["vision_language_model"],
        "language_model": names["language_model"],
        "recipe_hash": recipe_hash,
        "seconds_generate": item.generation.get("seconds", 0.0),
        "seconds_rewrite": 0.0,
    }
