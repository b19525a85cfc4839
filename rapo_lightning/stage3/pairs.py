"""Training pairs from trajectories: views that are derived on reading and never stored."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.ids import prompt_id
from ..data.ranking import Ranking, best_round, mean_gap, reaches
from ..data.store import Row
from ..data.tables import read_table
from ..data.trajectory import by_prompt
from ..errors import UserError
from ..models.refiner import refiner_messages
from ..prompting.pairs import SftPair
from ..prompting.templates import template
from ..recipe import Pairs, Stage3


@dataclass(frozen=True)
class PairReport:
    """How many prompts became pairs, and why the others did not."""

    prompts: int
    kept: int
    not_better: int
    too_long: int
    below_floor: int
    recipe_hash: str = ""

    def __str__(self) -> str:
        """One log line."""
        return (
            f"{self.kept} pairs from {self.prompts} prompts ({self.not_better} did not beat the user's prompt by the margin, "
            f"{self.too_long} were too long, {self.below_floor} below a floor)"
        )


def instruction(stage3: Stage3) -> str:
    """The whole system message of a refiner: the recipe's, or the shipped one."""
    return stage3.system or template("stage3", "system")


def _pair(request: str, completion: str, gap: float, identity: str, stage3: Stage3) -> SftPair:
    return SftPair(
        refiner_messages(request, instruction(stage3)), [{"role": "assistant", "content": completion}], gap, identity
    )


def _above_floors(row: Row, floors: dict[str, float]) -> bool:
    # A score that is not there has passed no floor, not even one below zero.
    return all(reaches(row, name, floor) for name, floor in floors.items())


def sft_pairs(rows: Sequence[Row], stage3: Stage3, ranking: Ranking | None = None) -> tuple[list[SftPair], PairReport]:
    """One pair per prompt: the user's prompt and the winner of Average Ranking, if it passes the filters.

    Args:
        rows: Trajectory rows of one recipe hash.
        stage3: Settings, with the filters in `stage3.pairs`.
        ranking: How the winner is found; None is the paper's Average Ranking.
    """
    pairs: list[SftPair] = []
    not_better = too_long = below_floor = 0
    groups = by_prompt(rows)
    for identity, rounds in groups.items():
        winner = best_round(rounds, ranking)
        gap = mean_gap(winner, rounds[0])
        # A loop that starts from a rewrite, as stage 1's, may have had its best prompt before it began.
        starts_raw = rounds[0]["prompt"] == rounds[0]["source_prompt"]
        # Where no verifier scored both, the gap is no number, and nothing says that the winner is better.
        if winner["prompt"] == winner["source_prompt"] or (starts_raw and not gap > stage3.pairs.margin):
            not_better += 1
        elif len(winner["prompt"].split()) > stage3.pairs.max_words:
            too_long += 1
        elif not _above_floors(winner, stage3.pairs.floors):
            below_floor += 1
        else:
            pairs.append(_pair(winner["source_prompt"], winner["prompt"], gap, identity, stage3))
    return pairs, PairReport(
        len(groups), len(pairs), not_better, too_long, below_floor, rows[0]["recipe_hash"] if rows else ""
    )


def read_pairs_csv(path: Path, stage3: Stage3) -> list[SftPair]:
    """Pairs from a CSV with the columns `prompt` and `completion`.

    Raises:
        UserError: If a column is missing or there is no row.
    """
    columns, found = read_table(path, "The pairs CSV")
    if not {"prompt", "completion"} <= set(columns):
        raise UserError(f"A pairs CSV needs the columns prompt and completion. Got {columns} in {path}.")
    rows = [(row["prompt"], row["completion"]) for row in found if row["prompt"] and row["completion"]]
    if not rows:
        raise UserError(f"The pairs CSV has no complete row. Got {path}.")
    return [_pair(request, completion, 0.0, prompt_id(request, ""), stage3) for request, completion in rows]


def is_validation(identity: str, settings: Pairs) -> bool:
    """Whether a prompt belongs to the validation side; by its identity, so it stays there when data is added."""
    return int(hashlib.sha256(identity.encode()).hexdigest()[:8], 16) / 2**32 < settings.validation_share


def split_pairs(pairs: Sequence[SftPair], settings: Pairs) -> tuple[list[SftPair], list[SftPair]]:
    """Training and validation pairs; no prompt is on both sides, and neither side is empty if there are two prompts."""
    validation = [pair for pair in pairs if is_validation(pair.prompt_id, settings)]
    training = [pair for pair in pairs if not is_validation(pair.prompt_id, settings)]
    if settings.validation_share and not validation and len(training) > 1:
        validation, training = training[:1], training[1:]
    if not training and len(validation) > 1:
        training, validation = validation[1:], validation[:1]
    return training, validation
