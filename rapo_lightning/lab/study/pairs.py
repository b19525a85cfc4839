"""The study's own sets of pairs: fewer of a run's prompts, and completions that stand beside the wrong prompts."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...data.prompts import read_prompts
from ...data.trajectory import TrajectoryStore, read_rows, score_columns
from ...errors import UserError
from ...recipe.files import load_recipe
from ...stage3.pairs import load_pairs


def write_subset(run: Path, prompts: Path, count: int, target: Path) -> None:
    """Writes a run folder with the trajectories of the first prompts of another, which a run of these alone would make.

    Args:
        run: The run folder.
        prompts: The file that it was collected on.
        count: How many prompts.
        target: Folder to write; an earlier one is replaced.

    Raises:
        UserError: If the run lacks one of them.
    """
    wanted = {prompt.id for prompt in read_prompts(str(prompts), count)}
    rows = [row for row in read_rows(run / "trajectories") if row["prompt_id"] in wanted]
    if {row["prompt_id"] for row in rows} != wanted:
        raise UserError(
            f"A smaller set needs all of its {count} prompts. Got fewer in {run}; run the part `collect` first."
        )
    names = [column.removeprefix("score_") for column in score_columns(rows[0])]
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(run / "recipes", target / "recipes")
    shutil.copy2(run / "recipe.yaml", target / "recipe.yaml")
    TrajectoryStore(target / "trajectories", names).append(rows)


def permuted(completions: Sequence[str], seed: int) -> list[str]:
    """Completions in another order, in which as few as possible stay where they were, or stand where an equal one did.

    Args:
        completions: Texts, in the order of their prompts.
        seed: Seed of the order.
    """
    kinds = sorted(set(completions))
    rank = dict(zip(kinds, np.random.default_rng(seed).permutation(len(kinds)), strict=True))
    # In a circle of all texts, equal ones together and else by chance, each goes past all of its kind.
    circle = sorted(range(len(completions)), key=lambda place: rank[completions[place]])
    most = max(Counter(completions).values())
    found = list(completions)
    for place, source in zip(circle, [*circle[most:], *circle[:most]], strict=True):
        found[place] = completions[source]
    return found


def write_shuffled(recipe: Path, target: Path, seed: int) -> None:
    """Writes the pairs that a recipe's `stage3` chooses, in each split with the completions permuted among the prompts.

    Args:
        recipe: The recipe, with the runs in `stage3.runs`.
        target: Folder to write, for `finetune --pairs`; an earlier one is replaced.
        seed: Seed of the permutation.
    """
    from datasets import Dataset, DatasetDict

    splits = {}
    for name, data in load_pairs(load_recipe(recipe), target).view("sft").items():
        if len(data):
            texts = [turns[-1]["content"] for turns in data["completion"]]
            requests = [turns[-1]["content"] for turns in data["prompt"]]
            rows = {"prompt": requests, "completion": permuted(texts, seed), "prompt_id": list(data["prompt_id"])}
            splits[name] = Dataset.from_dict(rows)
    shutil.rmtree(target, ignore_errors=True)
    DatasetDict(splits).save_to_disk(str(target))
