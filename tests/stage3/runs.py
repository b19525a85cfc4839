"""Run folders with made-up trajectories: a random language model rarely finds a better prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules import PairDataModule
from datamodules.pairs import fitting
from rapo_lightning.data.trajectory import TrajectoryStore
from rapo_lightning.models.causal_model import load_causal_model
from rapo_lightning.models.refiner import refiner_messages
from rapo_lightning.recipe import Stage3
from rapo_lightning.recipe.files import load_recipe, recipe_text
from rapo_lightning.stage3.adapter import trainable
from rapo_lightning.stage3.engines.lightning.module import RefinerModule
from rapo_lightning.stage3.objectives import OBJECTIVES
from tests.data.test_trajectory import make_row


def write_rounds(folder: Path, recipe: Path, prompts: int = 10) -> Path:
    """Writes trajectories of a recipe, in all of which the second round is better."""
    store = TrajectoryStore(folder / "trajectories", ["a", "b"])
    identity = "0123456789abcdef"
    (folder / "recipes").mkdir()
    (folder / "recipes" / f"{identity}.yaml").write_text(recipe_text(load_recipe(recipe)))
    for number in range(prompts):
        base = {"source_prompt": f"ball {number}", "recipe_hash": identity}
        better = f"a red ball rolls {number}" + " and a blue square falls" * (number % 3)
        store.append([
            make_row(f"{number:016x}", 0, 0.1, 0.1, **base),
            make_row(f"{number:016x}", 1, 0.9, 0.9, **{**base, "prompt": better}),
        ])  # fmt: skip
    return folder


def sft_row(request: str, answer: str, gap: float | None = 0.5) -> dict[str, Any]:
    """A row of the view `sft`."""
    turns = refiner_messages(request, "Rewrite.")
    completion = [{"role": "assistant", "content": answer}]
    return {"prompt": turns, "completion": completion, "prompt_id": request, "score_gap": gap}


def preference_row(request: str, chosen: str, rejected: str) -> dict[str, Any]:
    """A row of the view `preference`."""
    row = sft_row(request, chosen)
    return {**row, "chosen": row.pop("completion"), "rejected": [{"role": "assistant", "content": rejected}]}


def data_module(
    tokenizer: Any,
    training: Sequence[dict[str, Any]],
    validation: Sequence[dict[str, Any]],
    batch_size: int,
    max_length: int = 512,
    stage3: Stage3 | None = None,
    step: int = 0,
    pack_tokens: int = 0,
) -> PairDataModule:
    """Batches of rows for the objective of `stage3`."""
    chosen = stage3 or Stage3()
    form = OBJECTIVES[chosen.objective](chosen, tokenizer)
    sides = (
        fitting(form.examples(rows, kind == "training"), form, max_length, kind)
        for rows, kind in ((training, "training"), (validation, "validation"))
    )
    size = step or 2 * batch_size
    return PairDataModule(*sides, form=form, batch_size=batch_size, step=size, seed=0, pack_tokens=pack_tokens)


def refiner_module(
    language_model: Path, stage3: Stage3, kind: type[RefinerModule] = RefinerModule
) -> tuple[RefinerModule, Any]:
    """A module with a fresh adapter, and its tokenizer."""
    base, tokenizer = load_causal_model(str(language_model), "float32")
    objective = OBJECTIVES[stage3.objective](stage3, tokenizer)
    return kind(trainable(base, stage3), objective, stage3.optimizer, stage3.optimizer.lr, seed=0), tokenizer
