"""Pairs as datasets, in TRL's conversational format."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from datasets import Dataset, DatasetDict, Features, List, Value

from ...data.ranking import Ranking, average_ranks, known_score, mean_gap, missed_gates
from ...data.store import Row
from ...data.trajectory import score_columns
from ...models.refiner import refiner_messages
from ...prompting.chat import Messages
from ...prompting.templates import template
from ...recipe import Stage3, Views
from .filter import Candidate, dominates, plain
from .funnel import Funnel
from .split import Split

_TURNS = List({"role": Value("string"), "content": Value("string")})
_EXTRA = {"prompt_id": Value("string"), "score_gap": Value("float64")}
FEATURES = {
    "sft": Features(prompt=_TURNS, completion=_TURNS, **_EXTRA),
    "preference": Features(prompt=_TURNS, chosen=_TURNS, rejected=_TURNS, **_EXTRA),
    "unpaired": Features(prompt=_TURNS, completion=_TURNS, label=Value("bool"), **_EXTRA),
    "requests": Features(prompt=_TURNS, **_EXTRA),
}
"""Columns of each view; `score_gap` is null where nothing scored both rounds."""
Example = dict[str, Any]


def instruction(stage3: Stage3) -> str:
    """The whole system message of a refiner: the recipe's, or the shipped one."""
    return stage3.system or template("stage3", "system")


def _turn(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]


def _dataset(examples: Sequence[Example], features: Features) -> Dataset:
    return Dataset.from_dict({name: [example[name] for example in examples] for name in features}, features)


class PairViews:
    """The views of what the filters left; derived, and stored only where somebody exports them."""

    def __init__(self, funnel: Funnel, stage3: Stage3, ranking: Ranking) -> None:
        """Decides the sides of all requests; views are made when they are asked for.

        Args:
            funnel: The candidates.
            stage3: Instruction, settings of the views, share of validation.
            ranking: How rounds compare.

        Raises:
            UserError: If a dataset has a prompt in both of its splits.
        """
        self.funnel, self.stage3, self.ranking = funnel, stage3, ranking
        self.split = Split([*funnel.pool, *funnel.kept], funnel.kept, stage3.validation_share)

    def view(self, name: str) -> DatasetDict:
        """A view's splits `train` and `validation`.

        Args:
            name: `sft` {prompt, completion}, `preference` {prompt, chosen, rejected} or `unpaired` {prompt, completion, label}, `requests`
                {prompt}.
        """
        makers = {
            "sft": self._sft, "preference": self._preference, "unpaired": self._unpaired, "requests": self._requests,
        }  # fmt: skip
        sides: dict[str, list[Example]] = {"train": [], "validation": []}
        for candidate, example in makers[name]():
            sides["validation" if self.split.is_validation(candidate) else "train"].append(example)
        return DatasetDict({side: _dataset(found, FEATURES[name]) for side, found in sides.items()})

    def _base(self, candidate: Candidate, gap: float) -> Example:
        prompt = refiner_messages(candidate.request, instruction(self.stage3))
        return {"prompt": prompt, "prompt_id": candidate.prompt_id, "score_gap": None if math.isnan(gap) else gap}

    def _sft(self) -> Iterator[tuple[Candidate, Example]]:
        for item in self.funnel.kept:
            yield item, {**self._base(item, item.gap), "completion": _turn(item.text)}

    def _preference(self) -> Iterator[tuple[Candidate, Example]]:
        for item in self.funnel.kept:
            worse = rejected(item, self.stage3.views, self.ranking)
            if worse is not None:
                base = self._base(item, mean_gap(item.row, worse))
                yield item, {**base, "chosen": _turn(item.text), "rejected": _turn(worse["prompt"])}

    def _requests(self) -> Iterator[tuple[Candidate, Example]]:
        first: dict[str, Candidate] = {}
        for item in [*self.funnel.pool, *self.funnel.kept]:
            first.setdefault(plain(item.request), item)
        for item in first.values():
            yield item, self._base(item, math.nan)

    def _unpaired(self) -> Iterator[tuple[Candidate, Example]]:
        views, kept = self.stage3.views, {id(item) for item in self.funnel.kept}
        taken = {(plain(item.request), plain(item.text)) for item in self.funnel.kept}
        for item in {id(item): item for item in [*self.funnel.pool, *self.funnel.kept]}.values():
            score, texts = voted_mean(item.row, self.ranking), (plain(item.request), plain(item.text))
            if id(item) in kept and score >= views.good:
                yield item, {**self._base(item, item.gap), "completion": _turn(item.text), "label": True}
            elif texts not in taken and -math.inf < score < views.bad:
                taken.add(texts)
                yield item, {**self._base(item, item.gap), "completion": _turn(item.text), "label": False}


def voted_mean(row: Row, ranking: Ranking) -> float:
    """Mean score by the verifiers' votes; below a gate, or with no score, as low as can be.

    Args:
        row: A round.
        ranking: Votes and gates.
    """
    names = [column.removeprefix("score_") for column in score_columns(row)]
    votes = {name: ranking.weights.get(name, 1.0) for name in names if name not in ranking.gates}
    scores = {name: known_score(row, f"score_{name}") for name, vote in votes.items() if vote > 0}
    known = {name: score for name, score in scores.items() if score > -math.inf}
    if not known:
        return -math.inf
    if missed_gates(row, ranking):
        return min(0.0, *known.values())
    return sum(votes[name] * score for name, score in known.items()) / sum(votes[name] for name in known)


def rejected(candidate: Candidate, views: Views, ranking: Ranking) -> Row | None:
    """The round that a candidate is preferred to, or None: another text that ranks lower and scores less by the gap.

    Args:
        candidate: The chosen round.
        views: Which of the worse ones it is.
        ranking: How they compare; the lowest comes first, the earliest on a tie.
    """
    rounds = candidate.rounds
    order = [
        (missed_gates(row, ranking), rank) for row, rank in zip(rounds, average_ranks(rounds, ranking), strict=True)
    ]
    own = next(key for key, row in zip(order, rounds, strict=True) if row is candidate.row)
    worse = [
        place
        for place, row in enumerate(rounds)
        if order[place] > own and plain(row["prompt"]) != plain(candidate.text)
    ]
    for place in sorted(worse, key=lambda place: order[place], reverse=True):
        row = rounds[place]
        if mean_gap(candidate.row, row) > views.gap and (views.rejected == "worst" or dominates(candidate.row, row)):
            return row
    return None
