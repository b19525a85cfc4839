"""Judgements of videos that are there: each verifier's, and the optical flow, recorded at once and not made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..data.prompts import Prompt
from ..data.records import Record, Records
from ..models import ModelPool
from ..models.phases import phase
from ..models.usage import calls_by_item, metered
from ..recipe import Component
from ..recipe.identity import component_identity, digest, strip_layout, templates_identity
from ..running.interruption import INTERRUPTION
from ..verifiers import Verifier, View
from ..verifiers.flow import FLOW_VERSION

FLOW = "flow"
"""Stands for the optical flow among the judgements of a video."""


@dataclass(frozen=True)
class Take:
    """A video to be made and judged.

    Attributes:
        prompt: The user's prompt, which the video is judged against.
        text: What the video is made from.
        seed: Its seed.
        round: The round that it is first made for.
        draft: Whether its video is made cheaper (`stage2.draft`).
    """

    prompt: Prompt
    text: str
    seed: int
    round: int = 0
    draft: bool = False


@dataclass
class Screened:
    """What is known of a take.

    Attributes:
        key: Identity of its video.
        generation: The record of its generation.
        judgements: The record of each judgement, by the verifier's name; `FLOW` is the optical flow.
    """

    key: str
    generation: Record = field(default_factory=dict)
    judgements: dict[str, Record] = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """A verifier with what decides its scores.

    Attributes:
        verifier: The verifier.
        components: What the recipe says of it, and of the models that it uses.
    """

    verifier: Verifier
    components: tuple[Component, ...]

    @cached_property
    def identity(self) -> str:
        """Hash of what decides its scores; read when first asked for, since weights may have to be fetched before."""
        return digest([templates_identity("verifiers"), *map(component_identity, self.components)])

    def scores_like(self, other: Judge) -> bool:
        """Whether the recipe says the same of both, but for what changes no score."""
        return bool(strip_layout(list(self.components)) == strip_layout(list(other.components)))


ViewOf = Callable[[Take, Screened], View]
"""What verifiers see of a take; asked for those alone that a verifier has not judged."""


class Judging:
    """Asks verifiers about videos, each for the judgements that are not recorded."""

    def __init__(
        self,
        models: ModelPool,
        judges: Sequence[Judge],
        records: Records,
        flow_seconds: float,
        record_flow: bool = True,
    ) -> None:
        """Takes everything from outside.

        Args:
            models: Lends verifiers their models.
            judges: The verifiers.
            records: Where judgements are recorded.
            flow_seconds: Time between two frames of the optical flow.
            record_flow: Whether to measure and record the optical flow.
        """
        self.models, self.judges, self.records = models, judges, records
        self.flow_seconds, self.record_flow = flow_seconds, record_flow

    def keys(self, take: Take, key: str) -> dict[str, str]:
        """Key of each judgement of a take, by verifier.

        Args:
            take: The take.
            key: Identity of its video.
        """
        subject = [key, take.prompt.text, take.prompt.phys_law, take.text, self.flow_seconds, FLOW_VERSION]
        names = {judge.verifier.name: digest([subject, judge.identity]) for judge in self.judges}
        return {**names, FLOW: digest([key, FLOW, self.flow_seconds, FLOW_VERSION])} if self.record_flow else names

    def lacks(self, keys: Mapping[str, str]) -> bool:
        """Whether one of these judgements is not recorded."""
        return any(self._record(key) is None for key in keys.values())

    def found(self, keys: Mapping[str, str]) -> dict[str, Record]:
        """The records of these judgements, by verifier."""
        return {name: self._record(key) or {} for name, key in keys.items()}

    def _record(self, key: str) -> Record | None:
        return self.records.get("judgements", key)

    def judge(
        self, takes: Sequence[Take], found: Sequence[Screened], keys: Sequence[Mapping[str, str]], view_of: ViewOf
    ) -> None:
        """Asks each verifier for the judgements that are not recorded, and measures the flow.

        Args:
            takes: The takes.
            found: What is known of each.
            keys: The keys of each one's judgements.
            view_of: What verifiers see.
        """
        if self.record_flow:
            self._measure_flow(takes, found, keys, view_of)
        for judge in self.judges:
            INTERRUPTION.check()
            name = judge.verifier.name
            missing = [i for i, names in enumerate(keys) if self._record(names[name]) is None]
            if not missing:
                continue
            begin = time.monotonic()
            with phase("judge"), metered() as calls:
                judged = judge.verifier.judge([view_of(takes[i], found[i]) for i in missing], self.models)
            seconds = round((time.monotonic() - begin) / len(missing), 4)
            self.records.append(
                "judgements",
                [
                    {"key": keys[i][name], "video": found[i].key, "verifier": name, "score": item.score,
                     "critique": item.critique, "restated": item.restated, "seconds": seconds, "calls": spent}
                    for i, item, spent in zip(missing, judged, calls_by_item(calls, name, len(missing)), strict=True)
                ],
            )  # fmt: skip

    def _measure_flow(
        self, takes: Sequence[Take], found: Sequence[Screened], keys: Sequence[Mapping[str, str]], view_of: ViewOf
    ) -> None:
        missing = {
            names[FLOW]: (item.key, view_of(take, item))
            for take, item, names in zip(takes, found, keys, strict=True)
            if self._record(names[FLOW]) is None
        }
        if not missing:
            return
        begin = time.monotonic()
        # OpenCV releases the interpreter lock, so threads are enough.
        with phase("flow"), ThreadPoolExecutor() as pool:
            flows = list(pool.map(lambda pair: (pair[1].flow, pair[1].motion_words), missing.values()))
        seconds = round((time.monotonic() - begin) / len(missing), 4)
        self.records.append(
            "judgements",
            [
                {"key": key, "video": video, "verifier": FLOW, "flow": [list(mean) for mean in means], "motion": words,
                 "seconds": seconds}
                for (key, (video, _)), (means, words) in zip(missing.items(), flows, strict=True)
            ],
        )  # fmt: skip


def judgement_columns(judgements: Mapping[str, Record]) -> dict[str, Any]:
    """The columns of a row that judgements fill: scores, critique, the restated request, flow and motion, time and calls.

    Args:
        judgements: The record of each judgement, by the verifier's name.
    """
    judged = {name: record for name, record in judgements.items() if name != FLOW}
    return {
        **{f"score_{name}": record["score"] for name, record in judged.items()},
        "critique": " ".join(record["critique"] for record in judged.values() if record["critique"]),
        "restated": _restated(list(judged.values())),
        "flow": judgements[FLOW]["flow"] if FLOW in judgements else [],
        "motion": judgements[FLOW]["motion"] if FLOW in judgements else "",
        "seconds_judge": sum(record["seconds"] for record in judgements.values()),
        # Records of earlier releases have none.
        "calls": [call for record in judged.values() for call in record.get("calls", [])],
    }


def _restated(records: Sequence[Record]) -> str | None:
    """The request in a verifier's words, of the first that has any; None where all records are of earlier releases."""
    said = [record["restated"] for record in records if "restated" in record]
    return next(filter(None, said), "") if said else None
