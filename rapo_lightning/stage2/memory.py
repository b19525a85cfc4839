"""What the rewriter is shown of the rounds so far: which of them (`stage2.memory_from`), and as much as fits.

Both rewriters are shown rounds in one order of worth. Where `stage2.memory_tokens` has no room for all, the worst are
dropped first, of equal ones the oldest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from ..data.ranking import average_ranks, mean_score, missed_gates
from ..data.store import Row
from ..data.trajectory import restated_request
from ..models import LanguageModel, count_tokens
from ..prompting.revision import Attempt, attempt_lines, kept_attempts
from ..prompting.templates import template
from ..recipe import Stage2

T = TypeVar("T")


class History(NamedTuple):
    """What the prompted language model is told of the rounds so far.

    Attributes:
        memory: Earlier rewrites with their scores, a line each; empty for none.
        problem: What the next prompt is to solve: critiques, and the remark on the physics.
    """

    memory: str
    problem: str


def request_of(rounds: Sequence[Row], stage2: Stage2) -> str:
    """What the rewriter is told as the request (`Stage2.request`); the user's own where no judge restates it."""
    restated = restated_request(rounds) if stage2.request == "judge" else ""
    return restated or str(rounds[0]["source_prompt"])


def known_problems(rounds: Sequence[Row]) -> str:
    """The sentences of all critiques of these rounds, each once, the newest round's first."""
    sentences: dict[str, None] = {}
    for row in sorted(rounds, key=lambda row: -row["round"]):
        for sentence in re.split(r"(?<=[.!?])\s+", row["critique"] or ""):
            if sentence:
                sentences.setdefault(sentence)
    return " ".join(sentences)


def history_of(rounds: Sequence[Row], stage2: Stage2, model: LanguageModel) -> History:
    """What the prompted language model is told; the last round's critique and physics always are.

    Args:
        rounds: All rounds of a prompt so far, in order, the last with its physics.
        stage2: The loop's settings.
        model: The rewriter, which counts tokens where there is a budget.
    """

    def told(kept: Sequence[Row]) -> History:
        shown = {row["round"] for row in kept}
        lines = [_memory_line(row) for row in remembered if row["round"] in shown]
        remark = last["physics"] if stage2.physics == "rewrite" else ""
        problems = known_problems([last, *(row for row in kept if row is not last)])
        return History("".join(lines), " ".join(part for part in (problems, remark) if part))

    last, remembered = rounds[-1], _remembered(rounds, stage2)
    if stage2.memory_from == "original":
        return told([])
    if stage2.memory_from == "last":
        order = list(rounds[-max(1, stage2.memory) :])
    else:
        order = sorted(rounds, key=lambda row: (mean_score(row), row["round"]))
    return told(_fitting(order, lambda kept: "".join(told(kept)), stage2, model))


def _remembered(rounds: Sequence[Row], stage2: Stage2) -> list[Row]:
    """The rewrites whose scores are shown, in the order in which they are."""
    rewrites = [row for row in rounds if row["prompt"] != row["source_prompt"] and mean_score(row) > -math.inf]
    if stage2.memory_from == "last":
        return sorted(rewrites, key=lambda row: -row["round"])[: stage2.memory]
    return sorted(rewrites, key=lambda row: (-mean_score(row), row["round"]))[: stage2.memory]


def _memory_line(row: Row) -> str:
    return template("stage2", "memory_line").format(score=f"{mean_score(row):.2f}", prompt=row["prompt"]) + "\n"


def attempts_of(rounds: Sequence[Row], stage2: Stage2) -> list[Attempt]:
    """The rounds as attempts, the oldest first, scored as the loop ranks them.

    Args:
        rounds: The rounds of one prompt.
        stage2: Settings; where `physics` is `rewrite` its remark follows the critique.
    """
    ranks = average_ranks(rounds, stage2.ranking)
    found = []
    for row, rank in zip(rounds, ranks, strict=True):
        remark = row["physics"] if stage2.physics == "rewrite" else ""
        seen = " ".join(part for part in (row["critique"], remark) if part)
        # A round that misses fewer gates is better whatever its rank, which is at most the number of rounds.
        score = -missed_gates(row, stage2.ranking) * (len(rounds) + 1.0) - rank
        found.append(Attempt(row["prompt"], seen, score))
    return found


def shown_attempts(rounds: Sequence[Row], stage2: Stage2, model: LanguageModel) -> list[Attempt]:
    """What a fine-tuned rewriter is shown, in the order in which it reads them: what it is to start from last.

    At least one attempt is shown where `memory` allows any, however long it is.

    Args:
        rounds: All rounds of a prompt so far, in order, the last with its physics.
        stage2: The loop's settings.
        model: The rewriter, which counts tokens where there is a budget.
    """
    attempts = attempts_of(rounds, stage2)
    if stage2.memory_from == "original":
        # From the request anew: what was seen, and not of which prompt.
        return [Attempt("", attempts[-1].critique)] if attempts[-1].critique else []
    if stage2.memory_from == "last":
        kept = attempts[max(0, len(attempts) - stage2.memory) :]
    else:
        kept = kept_attempts(attempts, stage2.memory)
    return _fitting(kept, lambda shown: "\n".join(attempt_lines(shown)), stage2, model, least=1)


def _fitting(
    items: Sequence[T], text: Callable[[Sequence[T]], str], stage2: Stage2, model: LanguageModel, least: int = 0
) -> list[T]:
    """The items without as many of the first as it takes for their text to keep the budget; `least` stay in any case."""
    kept = list(items)
    while stage2.memory_tokens and len(kept) > least and count_tokens(model, text(kept)) > stage2.memory_tokens:
        del kept[0]
    return kept
