"""The loop's rewriter where it is a fine-tuned one that reads what was tried and seen so far (`stage2.rewriter`)."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.ids import derived_seed
from ..data.ranking import average_ranks, missed_gates
from ..data.store import Row
from ..models.refiner import Refiner, refiner_messages
from ..prompting.revision import Attempt, kept_attempts, revision_turn
from ..prompting.text import one_line, shorten
from ..recipe import Stage2


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


def revise(histories: Sequence[Sequence[Row]], stage2: Stage2, rewriter: Refiner) -> list[str]:
    """Proposes the next prompt of each trajectory: the rewriter's likeliest answer that was not tried yet, else a sampled one.

    Answers are not compared with request or critique: an embedder that does not know what a word means cannot choose by it.

    Args:
        histories: For each prompt its rounds so far, in order, the last with its critique and physics.
        stage2: The loop's settings; `memory` says how many attempts are shown, none without it.
        rewriter: The fine-tuned rewriter.

    Returns:
        One prompt each; the last round's own prompt where the model gave nothing usable.
    """
    turns = [
        revision_turn(rounds[0]["source_prompt"], kept_attempts(attempts_of(rounds, stage2), stage2.memory))
        for rounds in histories
    ]
    found = [[answer] for answer in rewriter.answers(turns)]
    tried = [{row["prompt"] for row in rounds} for rounds in histories]
    again = [
        index
        for index, (answers, known) in enumerate(zip(found, tried, strict=True))
        if shorten(answers[0], stage2.max_words) in {"", *known}
    ]
    if again:
        conversations = [refiner_messages(turns[index], rewriter.settings.system) for index in again]
        lasts = [histories[index][-1] for index in again]
        seeds = [derived_seed("rewrite", row["prompt_id"], row["round"], row["seed"]) for row in lasts]
        sampled = rewriter.model.complete(conversations, seeds, stage2.sampling, stage2.candidates)
        for index, answers in zip(again, sampled, strict=True):
            found[index] += [one_line(answer) for answer in answers]
    return [
        _first_new([shorten(answer, stage2.max_words) for answer in answers], known) or rounds[-1]["prompt"]
        for answers, known, rounds in zip(found, tried, histories, strict=True)
    ]


def _first_new(answers: Sequence[str], known: set[str]) -> str:
    """The first answer that was not tried; the first of all where there is none."""
    usable = [answer for answer in answers if answer]
    return next((answer for answer in usable if answer not in known), usable[0] if usable else "")
