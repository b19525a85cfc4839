"""Trains the discriminator on which branch gave the better video."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, TensorDataset

from ..data.prompts import Prompt
from ..data.store import Row
from ..errors import RunError
from ..models import Embedder
from ..running.trainer import make_trainer
from .discriminator import (
    BRANCH_COLUMNS,
    BRANCHES,
    Discriminator,
    Shape,
    choose_branch,
    features,
    plain_features,
)

EPOCHS, BATCH = 60, 64
"""Passes over the candidates, and candidates per step (ours)."""
HELD_OUT = 10
"""Every tenth prompt tells how good the choice is."""


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
        The discriminator, and mean scores on the other tenth: of each branch, of its choice, of the best branch. Branches
        without a score are left out of both, and so are prompts none of whose branches has one.

    Raises:
        RunError: If no video of either part has a score.
    """
    rows = [aligned[prompt.id] for prompt in prompts]
    requests = embedder.encode([row["source_prompt"] for row in rows])
    inputs = {branch: _inputs(rows, branch, requests, embedder) for branch in BRANCHES}
    targets = {branch: np.array(scores[branch]) for branch in BRANCHES}
    held = np.arange(len(prompts)) % HELD_OUT == 0
    known = {branch: np.isfinite(targets[branch]) for branch in BRANCHES}
    _check_scores(np.any(list(known.values()), axis=0), held)
    train_x = np.concatenate([inputs[branch][~held & known[branch]] for branch in BRANCHES])
    train_y = np.concatenate([targets[branch][~held & known[branch]] for branch in BRANCHES]).astype(np.float32)
    lightning.seed_everything(seed, verbose=False)
    model = Discriminator(Shape(embedder.name, requests.shape[1]))
    _fit(model, train_x, train_y)
    predicted = np.stack([np.where(known[b], model.predict(inputs[b]), np.nan) for b in BRANCHES])[:, held]
    truth = np.stack([targets[branch] for branch in BRANCHES])[:, held]
    model.shape = dataclasses.replace(model.shape, error=round(float(np.sqrt(np.nanmean((predicted - truth) ** 2))), 4))
    return model, _report(predicted, truth, model.shape.error)


def _inputs(rows: Sequence[Row], branch: str, requests: NDArray[np.float32], embedder: Embedder) -> NDArray[np.float32]:
    texts = [row[BRANCH_COLUMNS[branch]] for row in rows]
    plain = [plain_features(row["source_prompt"], text, branch) for row, text in zip(rows, texts, strict=True)]
    return features(requests, embedder.encode(texts), plain)


def _fit(model: Discriminator, inputs: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
    trainer = make_trainer(
        {"accelerator": "cpu", "devices": 1},
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    data = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(targets))
    trainer.fit(model, DataLoader(data, BATCH, shuffle=True))


def _check_scores(known: NDArray[np.bool_], held: NDArray[np.bool_]) -> None:
    for part, name in ((~held, "train on"), (held, "test on")):
        if not known[part].any():
            raise RunError(
                f"A discriminator needs scored videos of prompts to train on and of others to test on. Got {part.sum()} "
                f"prompts to {name}, none with a score; give more prompts, or see why the verifiers give none."
            )


def _report(predicted: NDArray[np.float64], truth: NDArray[np.float64], error: float) -> dict[str, float]:
    """Mean scores of each branch, of the choice as `align` makes it and of the best; arrays are `(branches, prompts)`."""
    scored = np.isfinite(truth).any(axis=0)
    predicted, truth, chosen = predicted[:, scored], truth[:, scored], []
    for guessed, real in zip(predicted.T, truth.T, strict=True):
        there = {branch: index for index, branch in enumerate(BRANCHES) if np.isfinite(real[index])}
        chosen.append(real[there[choose_branch({name: float(guessed[i]) for name, i in there.items()}, error)]])
    report = {b: float(np.nanmean(row)) for b, row in zip(BRANCHES, truth, strict=True) if np.isfinite(row).any()}
    return {**report, "chosen": float(np.mean(chosen)), "best": float(np.nanmax(truth, axis=0).mean()), "error": error}
