"""Reverse construction: training pairs for the rewriter, made from captions by degrading them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from relation_graph import RelationGraph, RetrievalSettings, retrieve

from ..console import say
from ..data.csv_log import CsvLog
from ..data.ids import derived_seed
from ..models.base import Embedder, LanguageModel
from ..prompting.chat import Sampling
from ..prompting.templates import template
from ..prompting.text import one_line
from ..recipe import Recipe, Stage1
from ..recipe.identity import component_identity, digest
from ..running.interruption import INTERRUPTION
from .merge import join

COLUMNS = ("prompt", "completion")
_AT_ONCE = 512
"""Requests between two writes."""


class Degrader(Protocol):
    """Turns captions into the requests that people would type for them."""

    name: str
    """Short name, for messages."""

    def degrade(
        self, captions: Sequence[str], seeds: Sequence[int], language_model: LanguageModel
    ) -> list[tuple[str, str]]:
        """For each caption a request, and the caption that answers it (mostly the caption itself)."""


class LanguageModelDegrader:
    """Degrades by asking the language model (the paper's way)."""

    name = "language_model"

    def __init__(self, temperature: float = 1.0, max_new_tokens: int = 48) -> None:
        """Sets the sampling.

        Args:
            temperature: High, so that the requests of one caption differ (ours).
            max_new_tokens: Longest request in tokens (ours).
        """
        self.sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)

    def degrade(
        self, captions: Sequence[str], seeds: Sequence[int], language_model: LanguageModel
    ) -> list[tuple[str, str]]:
        """See `Degrader`."""
        system = {"role": "system", "content": template("stage1", "degrade_system")}
        conversations = [[system, {"role": "user", "content": caption}] for caption in captions]
        answers = language_model.complete(
            conversations,
            [derived_seed(seed, caption) for seed, caption in zip(seeds, captions, strict=True)],
            self.sampling,
        )
        return [(one_line(answer), caption) for (answer,), caption in zip(answers, captions, strict=True)]


def augment_pairs(
    pairs: Sequence[tuple[str, str]], graph: RelationGraph, embedder: Embedder, stage1: Stage1
) -> list[tuple[str, str]]:
    """Adds to each request the modifiers that stage 1 would find for it, joined by commas.

    Duplicates and contradictions stay in, unlike at inference: the rewriter learns to believe the request first.

    Args:
        pairs: (request, caption).
        graph: The relation graph.
        embedder: Its embedder.
        stage1: Settings of the retrieval.
    """
    settings = RetrievalSettings(stage1.place_num, stage1.verb_num, stage1.topk_num)
    found = retrieve(graph, embedder.encode([request for request, _ in pairs]), settings)
    augmented = []
    for (request, caption), items in zip(pairs, found, strict=True):
        nearest = next((item for item in items if item.kind == "place"), None)
        for item in items:
            if item.score >= stage1.threshold and (item.kind != "place" or item is nearest):
                request = join(request, item.phrase)
        augmented.append((request, caption))
    return augmented


def make_requests(
    recipe: Recipe, captions: Sequence[str], degrader: Degrader, language: LanguageModel, folder: Path
) -> list[tuple[str, str]]:
    """Degrades all captions `stage1.degradations` times; what an earlier start has made is kept and continued.

    Args:
        recipe: The recipe.
        captions: The captions.
        degrader: Makes requests.
        language: The language model, for those that ask one.
        folder: Gets `requests-<hash>.csv`.

    Returns:
        (request, caption), without those that have no request.
    """
    kept = [component_identity(recipe.stage1.degrader), component_identity(recipe.language_model), recipe.seed]
    log = CsvLog(folder / f"requests-{digest([kept, list(captions)])}.csv", COLUMNS)
    begun, total = sum(1 for _ in log.rows()), len(captions) * recipe.stage1.degradations
    if begun:
        say(f"{begun} requests already in {log.path}")
    with INTERRUPTION.watched():
        for begin in tqdm(range(begun, total, _AT_ONCE), desc="degrade", unit="batch", delay=5):
            INTERRUPTION.check()
            numbers = range(begin, min(begin + _AT_ONCE, total))
            seeds = [recipe.seed + number // len(captions) for number in numbers]
            log.append(degrader.degrade([captions[number % len(captions)] for number in numbers], seeds, language))
    return [(request, completion) for request, completion in islice(log.rows(), total) if request]
