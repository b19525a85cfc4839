"""The loop's rewriter where it is a fine-tuned one that reads what was tried and seen so far (`stage2.rewriter`)."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.ids import derived_seed
from ..data.store import Row
from ..models.refiner import Refiner, refiner_messages
from ..prompting.revision import revision_turn
from ..prompting.text import shorten
from ..recipe import Stage2
from .candidates import Proposal, fitting, new_first, tried, usable
from .memory import request_of, shown_attempts


def revise(histories: Sequence[Sequence[Row]], stage2: Stage2, rewriter: Refiner) -> list[Proposal]:
    """Proposes the next prompt of each trajectory: the rewriter's likeliest answer that can be used, else a sampled one.

    It is sampled once where the likeliest answer was tried before or is longer than `max_words`; what is too long then is
    cut. Answers are not compared with request or critique: an embedder that does not know what a word means cannot choose
    by it.

    Args:
        histories: For each prompt its rounds so far, in order, the last with its critique and physics.
        stage2: The loop's settings; `memory` says how many attempts are shown, none without it.
        rewriter: The fine-tuned rewriter.

    Returns:
        One prompt each; the last round's own prompt where the model gave nothing usable.
    """
    turns = [
        revision_turn(request_of(rounds, stage2), shown_attempts(rounds, stage2, rewriter.model))
        for rounds in histories
    ]
    likeliest = rewriter.answers(turns)
    known = [tried(rounds) for rounds in histories]
    again = [
        index
        for index, (answer, texts) in enumerate(zip(likeliest, known, strict=True))
        if answer in {"", *texts} or not fitting([answer], stage2.max_words)
    ]
    sampled: dict[int, list[str]] = {}
    if again:
        conversations = [refiner_messages(turns[index], rewriter.settings.system) for index in again]
        lasts = [histories[index][-1] for index in again]
        seeds = [derived_seed("rewrite", row["prompt_id"], row["round"], row["seed"]) for row in lasts]
        found = rewriter.model.complete(conversations, seeds, stage2.sampling, stage2.candidates)
        sampled = dict(zip(again, found, strict=True))
    return [
        _first(answer, sampled.get(index, []), histories[index], stage2.max_words)
        for index, answer in enumerate(likeliest)
    ]


def _first(likeliest: str, sampled: Sequence[str], rounds: Sequence[Row], max_words: int) -> Proposal:
    """The first answer that is new and short enough, else the first new one, cut, else the first of all."""
    known, answers = tried(rounds), usable([likeliest, *sampled])
    options = new_first(answers, known, max_words)
    for text in fitting(options, max_words):
        if text not in known:
            return Proposal(text, "" if fitting([likeliest], max_words) else "again")
    if not options:
        return Proposal(rounds[-1]["prompt"])
    text = shorten(options[0], max_words)
    return Proposal(text, "cut" if text != options[0] else "")
