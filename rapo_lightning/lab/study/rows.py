"""The arms of an evaluation from the rows that it keeps, whichever of the study's steps made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...data.prompts import Prompt
from ...data.store import Row
from ...data.trajectory import by_prompt, read_rows, score_columns
from ...errors import UserError
from ...evaluation.module import LATEST
from .measures import SEEDED, Arm, Video
from .tables import Cost

_LOOPS = ("sspo", "blind", "refiner+sspo")
_LOOP_PARTS = ("generate", "rewrite", "judge")
_ARM_PARTS = ("generate", "rewrite")


def read_run(folder: Path, prompts: Sequence[Prompt]) -> tuple[dict[str, Arm], dict[str, Cost]]:
    """The arms that have all of the prompts, a setting's training seeds together, and what each costs per prompt.

    Args:
        folder: The run folder of an evaluation.
        prompts: The prompts, with their groups; rows of others are left out.

    Raises:
        UserError: If no arm has them all.
    """
    known = {prompt.id: prompt for prompt in prompts}
    order = {identity: place for place, identity in enumerate(known)}
    arms: dict[str, Arm] = {}
    costs: dict[str, list[Cost]] = {}
    for own in sorted((folder / "evaluation" / "arms").glob("*/")):
        rows = sorted((r for r in latest(own) if r["prompt_id"] in known), key=lambda row: order[row["prompt_id"]])
        if {row["prompt_id"] for row in rows} != set(known):
            continue
        rounds = _rounds(folder, own.name)
        shown = f"{own.name}@{max(row['round'] for row in rounds) + 1}" if rounds else own.name
        seeded = SEEDED.fullmatch(shown)
        arm = arms.setdefault(seeded[1] if seeded else shown, Arm(seeded[1] if seeded else shown))
        arm.trainings.add(shown)
        for row in rows:
            arm.videos[row["prompt_id"]].append(_video(row, shown, known[row["prompt_id"]].group))
        costs.setdefault(arm.name, []).append(_cost(rows, rounds, len(known)))
    if not arms:
        raise UserError(
            f"The report needs what `evaluate` wrote. Got no arm with all prompts in {folder}; run the part `evaluate` first."
        )
    return arms, {
        name: Cost(float(np.mean([c.videos for c in own])), float(np.mean([c.seconds for c in own])))
        for name, own in costs.items()
    }


def latest(folder: Path) -> list[Row]:
    """The rows of an arm; of a video that was made again, by another refiner say, the one of the last evaluation.

    Evaluations of before `LATEST` was written are told by the times of their files.
    """
    if (folder / LATEST).is_file():
        last = set(json.loads((folder / LATEST).read_text(encoding="utf-8")))
        return [row for row in read_rows(folder) if row["recipe_hash"] in last]
    parts = sorted(folder.glob("*.parquet"), key=lambda path: (path.stat().st_mtime, path.name))
    hashes = (
        {row["recipe_hash"]: number for number, part in enumerate(parts) for row in _part(part)}
        if len(parts) > 1
        else {}
    )
    found: dict[tuple[str, int], Row] = {}
    for row in sorted(read_rows(folder), key=lambda row: hashes.get(row["recipe_hash"], 0)):
        found[row["prompt_id"], row["seed"]] = row
    return list(found.values())


def _part(path: Path) -> list[Row]:
    from pyarrow.parquet import read_table

    return read_table(path, columns=["recipe_hash"]).to_pylist()


def _rounds(folder: Path, name: str) -> list[Row]:
    """Rounds of a loop that is an arm, each prompt's once."""
    if name not in _LOOPS:
        return []
    places = (folder / "evaluation").glob(f"loop-{name}-*" if "+" in name else f"loop-{name}")
    newest = max(places, key=lambda path: path.stat().st_mtime, default=None)
    rows = read_rows(newest / "trajectories") if newest else []
    return [row for group in by_prompt(rows).values() for row in {row["round"]: row for row in group}.values()]


def _video(row: Row, arm: str, group: str) -> Video:
    (column,) = score_columns(row)
    score = float("nan") if row[column] is None else float(row[column])
    return Video(
        arm,
        row["prompt_id"],
        row["source_prompt"],
        group,
        str(row["seed"]),
        row["prompt"],
        score,
        row["critique"] or "",
    )


def _cost(rows: Sequence[Row], rounds: Sequence[Row], count: int) -> Cost:
    if not rounds:
        return Cost(1.0, _seconds(rows, _ARM_PARTS) / len(rows))
    return Cost(len(rounds) / count, _seconds(rounds, _LOOP_PARTS) / count)


def _seconds(rows: Sequence[Row], parts: Sequence[str]) -> float:
    return sum(float(row[f"seconds_{part}"] or 0.0) for row in rows for part in parts)
