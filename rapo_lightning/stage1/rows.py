"""The rows of stage 1: every intermediate of every prompt."""

from __future__ import annotations

from pathlib import Path

from datasets import Features, List, Value

from ..data.store import PartStore

IDENTITY = ("prompt_id", "recipe_hash")
_FOUND = {"phrase": Value("string"), "score": Value("float32"), "count": Value("int32")}
_STRINGS = ("source_prompt", "phys_law", "reference", "augmented", "refactored", "instructed", "choice", "prompt",
            "graph", "embedder", "language_model", "rewriter", "discriminator")  # fmt: skip

FEATURES = Features(
    {
        "schema_version": Value("int32"),
        "prompt_id": Value("string"),
        **{name: Value("string") for name in _STRINGS[:3]},
        "places": List(_FOUND),
        "modifiers": List({"kind": Value("string"), **_FOUND, "outcome": Value("string")}),
        "merges": List(Value("string")),
        "merge_kinds": List(Value("string")),
        **{name: Value("string") for name in _STRINGS[3:5]},
        "carried": List(Value("string")),
        "instructed": Value("string"),
        "score_refactored": Value("float32"),
        "score_instructed": Value("float32"),
        "score_original": Value("float32"),
        **{name: Value("string") for name in _STRINGS[6:]},
        "recipe_hash": Value("string"),
        "seconds_retrieve": Value("float32"),
        "seconds_merge": Value("float32"),
        "seconds_rewrite": Value("float32"),
    }
)
"""Columns; the scores are null without a discriminator, and for a branch that is not there."""


class AlignedStore(PartStore):
    """The prompts of a run after stage 1. Identity of a row: (prompt_id, recipe_hash)."""

    def __init__(self, folder: Path) -> None:
        """Opens or creates the store; errors as in `PartStore`."""
        super().__init__(folder, FEATURES, IDENTITY)
