"""Run folders with made-up trajectories: a random language model rarely finds a better prompt."""

from __future__ import annotations

from pathlib import Path

from rapo_lightning.data.trajectory import TrajectoryStore
from rapo_lightning.recipe.files import load_recipe, recipe_text
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
