"""Training pairs from trajectories: views that are derived on reading and never stored."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.ids import prompt_id
from ..data.trajectory import Row, best_round, by_prompt, mean_score
from ..errors import UserError
from ..prompting.chat import Messages
from ..prompting.templates import template
from ..recipe import Pairs, Stage3


@dataclass(frozen=True)
class SftPair:
    """A conversational prompt and completion.

    Attributes:
        prompt: System and user turn.
        completion: One assistant turn.
        score_gap: Mean score of the winner minus that of round 0.
        prompt_id: Identity of the prompt.
    """

    prompt: Messages
    completion: Messages
    score_gap: float
    prompt_id: str


@dataclass(frozen=True)
class PairReport:
    """How many prompts became pairs, and why the others did not."""

    prompts: int
    kept: int
    not_better: int
    too_long: int
    below_floor: int

    def __str__(self) -> str:
        """One log line."""
        return (
            f"{self.kept} pairs from {self.prompts} prompts ({self.not_better} did not beat round 0 by the margin, "
            f"{self.too_long} were too long, {self.below_floor} below a floor)"
        )


def default_system() -> str:
    """The shipped system message of refiners."""
    return template("stage3", "system")


def refiner_messages(request: str, system: str) -> Messages:
    """The conversation a refiner answers, the same in training and in use."""
    return [{"role": "system", "content": system or default_system()}, {"role": "user", "content": request}]


def _pair(request: str, completion: str, gap: float, identity: str, stage3: Stage3) -> SftPair:
    return SftPair(
        refiner_messages(request, stage3.system), [{"role": "assistant", "content": completion}], gap, identity
    )


def _above_floors(row: Row, floors: dict[str, float]) -> bool:
    return all((row.get(f"score_{name}") or 0.0) >= floor for name, floor in floors.items())


def sft_pairs(rows: Sequence[Row], stage3: Stage3) -> tuple[list[SftPair], PairReport]:
    """One pair per prompt: the user's prompt and the winner of Average Ranking, if it passes the filters.

    Args:
        rows: Trajectory rows of one recipe hash.
        stage3: Settings, with the filters in `stage3.pairs`.
    """
    pairs: list[SftPair] = []
    not_better = too_long = below_floor = 0
    groups = by_prompt(rows)
    for identity, rounds in groups.items():
        winner = best_round(rounds)
        gap = mean_score(winner) - mean_score(rounds[0])
        if winner["round"] == 0 or not gap > stage3.pairs.margin:
            not_better += 1
        elif len(winner["prompt"].split()) > stage3.pairs.max_words:
            too_long += 1
        elif not _above_floors(winner, stage3.pairs.floors):
            below_floor += 1
        else:
            pairs.append(_pair(winner["source_prompt"], winner["prompt"], gap, identity, stage3))
    return pairs, PairReport(len(groups), len(pairs), not_better, too_long, below_floor)


def read_pairs_csv(path: Path, stage3: Stage3) -> list[SftPair]:
    """Pairs from a CSV with the columns `prompt` and `completion`.

    Raises:
        UserError: If a column is missing or there is no row.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not {"prompt", "completion"} <= set(reader.fieldnames or []):
            raise UserError(f"A pairs CSV needs the columns prompt and completion. Got {reader.fieldnames} in {path}.")
        rows = [(row["prompt"], row["completion"]) for row in reader if row["prompt"] and row["completion"]]
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
