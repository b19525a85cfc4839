"""`discriminator`: trains stage 1's discriminator on which branch gave the better video."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, TensorDataset

from ..console import say
from ..data.prompts import Prompt, read_prompts
from ..data.store import Row
from ..models.base import Embedder
from ..prompting.choosing import choose_from
from ..recipe import Recipe
from ..running.trainer import make_trainer
from ..stage1.align import AlignModels
from ..stage1.discriminator import (
    BRANCH_COLUMNS,
    BRANCHES,
    Discriminator,
    Shape,
    choose_branch,
    features,
    plain_features,
)
from ..stage2.loop import LoopModels
from ..verifiers import Judgement, Verifier, View
from .align import align_prompts
from .common import fetch_models, run_folder, save_recipe
from .scoring import score_prompts

EPOCHS, BATCH = 60, 64
"""Passes over the candidates, and candidates per step (ours)."""
_HELD_OUT = 10
"""Every tenth prompt tells how good the choice is."""


class MeanOfVerifiers:
    """The loop's verifiers as one: the mean of their scores, the paper's S(v)."""

    name = "mean"

    def __init__(self, verifiers: Sequence[Verifier]) -> None:
        """Takes the verifiers."""
        self.verifiers = verifiers

    def judge(self, views: Sequence[View], embedder: Embedder) -> list[Judgement]:
        """One judgement per video."""
        scores = [[item.score for item in verifier.judge(views, embedder)] for verifier in self.verifiers]
        known = [[value for value in column if value is not None] for column in zip(*scores, strict=True)]
        return [Judgement(sum(values) / len(values) if values else None) for values in known]


def _score_branches(
    recipe: Recipe, prompts: list[Prompt], aligned: dict[str, Row], folder: Path
) -> dict[str, list[float]]:
    """Scores of a video of each branch, in the order of the prompts; generated once and kept."""
    models = LoopModels.from_recipe(recipe)
    metric = MeanOfVerifiers(models.verifiers)
    scores: dict[str, list[float]] = {}
    for branch in BRANCHES:
        texts = {p.id: aligned[p.id][BRANCH_COLUMNS[branch]] for p in prompts}
        there = [prompt for prompt in prompts if texts[prompt.id]]
        say(f"{branch}: videos of {len(there)} prompts")
        identity = f"{recipe.align_hash()}-{recipe.row_hash()}-{branch}"
        rows = score_prompts(recipe, models, metric, folder / "branches", identity, there, choose_from(texts))
        found = {row["prompt_id"]: row[f"score_{metric.name}"] or 0.0 for row in rows}
        scores[branch] = [found.get(prompt.id, float("nan")) for prompt in prompts]
    return scores


def train_discriminator(
    prompts: Sequence[Prompt], aligned: dict[str, Row], scores: dict[str, list[float]], embedder: Embedder, seed: int
) -> tuple[Discriminator, dict[str, float]]:
    """Trains on nine tenths of the prompts.

    Args:
        prompts: The prompts.
        aligned: Their rows of stage 1.
        scores: Score of each branch's video, in the order of the prompts; NaN where the branch is not there.
        embedder: Gives the vectors.
        seed: Seed of weights and order.

    Returns:
        The discriminator, and mean scores on the other tenth: of each branch, of its choice, of the best branch.
    """
    rows = [aligned[prompt.id] for prompt in prompts]
    requests = embedder.encode([row["source_prompt"] for row in rows])
    inputs, targets = {}, {}
    for branch in BRANCHES:
        texts = [row[BRANCH_COLUMNS[branch]] for row in rows]
        plain = [plain_features(row["source_prompt"], text, branch) for row, text in zip(rows, texts, strict=True)]
        inputs[branch], targets[branch] = features(requests, embedder.encode(texts), plain), np.array(scores[branch])
    held = np.arange(len(prompts)) % _HELD_OUT == 0
    known = {branch: np.isfinite(targets[branch]) for branch in BRANCHES}
    train_x = np.concatenate([inputs[branch][~held & known[branch]] for branch in BRANCHES])
    train_y = np.concatenate([targets[branch][~held & known[branch]] for branch in BRANCHES]).astype(np.float32)
    lightning.seed_everything(seed, verbose=False)
    model = Discriminator(Shape(embedder.name, requests.shape[1]))
    trainer = make_trainer(
        {"accelerator": "cpu", "devices": 1},
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    data = TensorDataset(torch.from_numpy(train_x), torch.from_numpy(train_y))
    trainer.fit(model, DataLoader(data, BATCH, shuffle=True))
    predicted = np.stack([np.where(known[b], model.predict(inputs[b]), np.nan) for b in BRANCHES])[:, held]
    truth = np.stack([targets[branch] for branch in BRANCHES])[:, held]
    model.shape = dataclasses.replace(model.shape, error=round(float(np.sqrt(np.nanmean((predicted - truth) ** 2))), 4))
    return model, _report(predicted, truth, model.shape.error)


def _report(predicted: NDArray[np.float64], truth: NDArray[np.float64], error: float) -> dict[str, float]:
    """Mean scores of each branch, of the choice as `align` makes it and of the best; arrays are `(branches, prompts)`."""
    chosen = []
    for guessed, real in zip(predicted.T, truth.T, strict=True):
        there = {branch: index for index, branch in enumerate(BRANCHES) if np.isfinite(real[index])}
        chosen.append(real[there[choose_branch({name: float(guessed[i]) for name, i in there.items()}, error)]])
    report = {b: float(np.nanmean(row)) for b, row in zip(BRANCHES, truth, strict=True) if np.isfinite(row).any()}
    return {**report, "chosen": float(np.mean(chosen)), "best": float(np.nanmax(truth, axis=0).mean()), "error": error}


def discriminator(recipe: Recipe, recipe_yaml: str, out: str) -> Path:
    """Aligns the recipe's prompts, makes a video of each branch, scores it, and trains.

    Run again it goes on where it stopped.

    Returns:
        The discriminator's folder.
    """
    prompts = read_prompts(recipe.prompts, recipe.limit)
    # The choice plays no part here, and the one to be trained may not exist yet.
    recipe = dataclasses.replace(recipe, stage1=dataclasses.replace(recipe.stage1, discriminator=""))
    models = AlignModels.from_recipe(recipe)
    LoopModels.from_recipe(recipe)
    folder = run_folder(recipe, out)
    fetch_models(recipe)
    save_recipe(recipe_yaml, folder)
    aligned = align_prompts(recipe, prompts, folder / "aligned", models)
    scores = _score_branches(recipe, prompts, aligned, folder)
    model, report = train_discriminator(prompts, aligned, scores, models.embedder, recipe.seed)
    model.save(folder / "discriminator")
    shown = ", ".join(f"{name} {value:.3f}" for name, value in report.items())
    say(f"mean scores of {-(-len(prompts) // _HELD_OUT)} prompts not trained on: {shown}")
    say(f"discriminator written to {folder / 'discriminator'}")
    return folder / "discriminator"
