"""Stage 1 over a batch of prompts, phase by phase."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from relation_graph import Found, GraphError, RelationGraph, RetrievalSettings, load_graph, retrieve

from ..data.prompts import Prompt
from ..data.resources import find
from ..data.store import Row
from ..errors import UserError
from ..models import ModelPool
from ..models.refiner import Refiner
from ..prompting.examples import ExamplePool, read_examples
from ..recipe import Recipe
from ..recipe.components import build
from ..recipe.identity import align_hash
from ..running.pool import open_refiner
from .branches import carry_over, instruct, unknown_words
from .discriminator import (
    BRANCH_COLUMNS,
    BRANCHES,
    Discriminator,
    choose_branch,
    features,
    load_discriminator,
    plain_features,
)
from .merge import merge
from .modifiers import Group, read_groups, select
from .search import DeviceSearch


@dataclass
class AlignParts:
    """Everything that stage 1 needs beside the pool's models, built from a recipe; no weights are loaded yet."""

    graph: RelationGraph | None
    rewriter: Refiner | None
    discriminator: Discriminator | None
    examples: ExamplePool
    groups: tuple[Group, ...]
    all_branches: bool = False
    """Whether both branches are made of every prompt, chosen or not."""

    @classmethod
    def from_recipe(cls, recipe: Recipe, models: ModelPool) -> AlignParts:
        """Opens and builds all parts.

        Raises:
            UserError: If the graph or another part is missing, or does not fit the others.
        """
        stage1 = recipe.stage1
        # A rewriter can do without: nothing is retrieved then.
        graph = open_graph(recipe.graph) if recipe.graph or not stage1.rewriter else None
        embedder = build(recipe.embedder, "embedder")
        try:
            if graph is not None:
                graph.check_encoder(embedder, graph.dimensions)
        except GraphError as error:
            raise UserError(str(error)) from error
        return cls(
            graph,
            open_refiner(stage1.rewriter, recipe, models, own_base=True) if stage1.rewriter else None,
            load_discriminator(stage1.discriminator, embedder.name) if stage1.discriminator else None,
            ExamplePool(read_examples(stage1.examples, "stage1.examples") if stage1.examples else []),
            read_groups(stage1.exclusive),
        )


def open_graph(folder: str) -> RelationGraph:
    """Opens the graph of a recipe.

    Raises:
        UserError: If it is not given, not there or not whole.
    """
    if not folder:
        raise UserError(
            "Stage 1 needs a relation graph, `--graph DIR`, or a rewriter, `--stage1.rewriter DIR`. Got none; build a graph with "
            "`graph build`."
        )
    try:
        # A folder that is not there may be one that a killed writer has moved away; loading takes it back.
        return load_graph(find(folder) or Path(folder))
    except GraphError as error:
        raise UserError(str(error)) from error


class Aligner:
    """Runs stage 1; keeps nothing between batches but the models."""

    def __init__(self, recipe: Recipe, models: ModelPool, parts: AlignParts) -> None:
        """Takes what a batch needs."""
        self.recipe, self.models, self.parts = recipe, models, parts
        if parts.rewriter is not None:
            parts.rewriter.check_base()
        self.recipe_hash = align_hash(recipe)

    @cached_property
    def search(self) -> DeviceSearch:
        """The search for places, where the pool's models work."""
        return DeviceSearch(self.models.device)

    def run(self, prompts: Sequence[Prompt]) -> list[Row]:
        """Aligns a batch of prompts.

        Returns:
            Finished rows.

        Raises:
            UserError: If the embedder's vectors have other dimensions than the graph's.
        """
        stage1, begin = self.recipe.stage1, time.monotonic()
        texts = [prompt.text for prompt in prompts]
        vectors = self.models.embedder.encode(texts)
        found = self._retrieve(vectors)
        rows = [self._row(prompt, items) for prompt, items in zip(prompts, found, strict=True)]
        retrieved = time.monotonic()
        chosen = [self._modifiers(row, items) for row, items in zip(rows, found, strict=True)]
        if any(chosen):
            steps = merge(texts, chosen, self.models.language, stage1.merge)
            for row, merges in zip(rows, steps, strict=True):
                row["merges"], row["merge_kinds"] = [step.text for step in merges], [step.kind for step in merges]
                row["augmented"] = merges[-1].text if merges else row["source_prompt"]
        merged = time.monotonic()
        self._refactor(rows)
        self._instruct(self._open_to_instruction(rows, vectors))
        self._choose(rows, vectors)
        seconds = (retrieved - begin, merged - retrieved, time.monotonic() - merged)
        for row in rows:
            for name, value in zip(("retrieve", "merge", "rewrite"), seconds, strict=True):
                row[f"seconds_{name}"] = value / len(rows)
        return rows

    def _retrieve(self, vectors: np.ndarray) -> list[list[Found]]:
        """Places and modifiers of each prompt; none without a graph."""
        stage1, graph = self.recipe.stage1, self.parts.graph
        if graph is None:
            return [[] for _ in vectors]
        settings = RetrievalSettings(stage1.place_num, stage1.verb_num, stage1.topk_num)
        try:
            return retrieve(graph, vectors, settings, self.search)
        except GraphError as error:
            raise UserError(str(error)) from error

    def _row(self, prompt: Prompt, found: Sequence[Found]) -> Row:
        places = [item for item in found if item.kind == "place"]
        return {
            "prompt_id": prompt.id,
            "source_prompt": prompt.text,
            "phys_law": prompt.phys_law,
            "reference": prompt.reference,
            "places": [{"phrase": item.phrase, "score": item.score, "count": item.count} for item in places],
            "merges": [],
            "merge_kinds": [],
            "augmented": prompt.text,
            **{f"score_{branch}": None for branch in BRANCHES},
            "graph": self.recipe.graph,
            "embedder": self.models.names["embedder"],
            "language_model": self.models.names["language_model"],
            "rewriter": self.recipe.stage1.rewriter,
            "discriminator": self.recipe.stage1.discriminator,
            "recipe_hash": self.recipe_hash,
        }

    def _modifiers(self, row: Row, found: Sequence[Found]) -> list[str]:
        """Notes the outcome of each phrase; returns those to merge, the nearest first."""
        outcomes = select(found, row["source_prompt"], self.recipe.stage1.threshold, self.parts.groups)
        row["modifiers"] = [
            {"kind": item.kind, "phrase": item.phrase, "score": item.score, "count": item.count, "outcome": outcome}
            for item, outcome in zip(found, outcomes, strict=True)
        ]
        taken = [item for item, outcome in zip(found, outcomes, strict=True) if outcome == "chosen"]
        return [item.phrase for item in sorted(taken, key=lambda item: -item.score)]

    def _refactor(self, rows: Sequence[Row]) -> None:
        rewriter = self.parts.rewriter
        captions = [""] * len(rows)
        vocabulary: frozenset[str] = frozenset()
        if rewriter is not None:
            captions, vocabulary = rewriter.answers([row["augmented"] for row in rows]), rewriter.vocabulary
        for row, caption in zip(rows, captions, strict=True):
            keep = caption and self.recipe.stage1.carry_over
            row["carried"] = unknown_words(row["source_prompt"], caption, vocabulary) if keep else []
            row["refactored"] = carry_over(caption, row["source_prompt"]) if row["carried"] else caption
            row["instructed"] = ""

    def _open_to_instruction(self, rows: Sequence[Row], vectors: np.ndarray) -> list[Row]:
        """The rows in which rewriting by instruction may be chosen; it is not asked for in vain."""
        if self.parts.all_branches or self.parts.discriminator is not None or self.parts.rewriter is None:
            return list(rows)
        encoded = self.models.embedder.encode([row["refactored"] for row in rows])
        faithful = (vectors * encoded).sum(axis=1) >= self.recipe.stage1.faithfulness
        return [row for row, enough in zip(rows, faithful, strict=True) if not (enough and row["refactored"])]

    def _instruct(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        augmented, requests = [row["augmented"] for row in rows], [row["source_prompt"] for row in rows]
        answers = instruct(requests, augmented, self.recipe.stage1, self.models, self.parts.examples)
        for row, answer in zip(rows, answers, strict=True):
            row["instructed"] = answer

    def _choose(self, rows: Sequence[Row], vectors: np.ndarray) -> None:
        """Chooses per prompt among the branches that are there, faithful enough, and the original."""
        candidates = []
        for number, row in enumerate(rows):
            candidates += [(number, branch, row[column]) for branch, column in BRANCH_COLUMNS.items() if row[column]]
        encoded = self.models.embedder.encode([text for _, _, text in candidates])
        requests = vectors[[number for number, _, _ in candidates]]
        cosines = (requests * encoded).sum(axis=1)
        plain = [plain_features(rows[number]["source_prompt"], text, branch) for number, branch, text in candidates]
        model = self.parts.discriminator
        scores = model.predict(features(requests, encoded, plain)) if model is not None else None
        margin = model.shape.error if model is not None else 0.0
        faithful: list[dict[str, float]] = [{} for _ in rows]
        for index, (number, branch, _) in enumerate(candidates):
            # Without a discriminator all scores are equal, and the first faithful branch stands.
            score = float(scores[index]) if scores is not None else 0.0
            rows[number][f"score_{branch}"] = score if scores is not None else None
            if branch == "original" or cosines[index] >= self.recipe.stage1.faithfulness:
                faithful[number][branch] = score
        for row, offered in zip(rows, faithful, strict=True):
            row["choice"] = choose_branch(offered, margin)
            row["prompt"] = row[BRANCH_COLUMNS[row["choice"]]]
