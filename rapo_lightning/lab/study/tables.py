"""The study's tables, as markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...evaluation.arms import ArmResult, summarize
from ...evaluation.statistics import ratio_interval
from ..describing import NAMES
from ..labels import Labels
from .measures import Arm, length, named_right, shown_right

ENDS = ("raw", "reference")
_KEYS = tuple(key for key in NAMES if not key.endswith("_2"))


@dataclass(frozen=True)
class Cost:
    """What an arm needs for a prompt."""

    videos: float = 1.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Measured:
    """The arms of a regime.

    Attributes:
        arms: By name, in the order of the tables.
        prompts: Ids of the held-out prompts.
        groups: The group of each.
        labels: What hand-written requests ask for.
        costs: By arm.
    """

    arms: Mapping[str, Arm]
    prompts: Sequence[str]
    groups: Sequence[str]
    labels: Labels
    costs: Mapping[str, Cost]

    def summary(self, names: Sequence[str], compare: str) -> dict[str, Any]:
        """As `results.json`: means, paired differences and gap closures of some arms, of all prompts and by group."""
        results = []
        for name in names:
            cost = self.costs.get(name, Cost())
            results.append(ArmResult(name, self.arms[name].scores(self.prompts), cost.videos, cost.seconds))
        return summarize(results, "lab_oracle", "", self.groups, compare)

    def part(self, group: str) -> list[str]:
        """Ids of the prompts of a group; of all for the empty one."""
        return [prompt for prompt, own in zip(self.prompts, self.groups, strict=True) if group in ("", own)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _number(value: float, ends: Sequence[float], sign: str = "") -> str:
    # Zero has no sign.
    shown = [round(item, 3) + 0.0 for item in (value, *ends)]
    return f"{shown[0]:{sign}.3f} [{shown[1]:{sign}.3f}, {shown[2]:{sign}.3f}]"


def minus(block: Mapping[str, Any], name: str, other: str) -> str:
    """The paired difference of two arms with its interval; empty for one and the same, or where one is missing."""
    paired = block["paired"]
    if f"{name} - {other}" in paired:
        found = paired[f"{name} - {other}"]
        return _number(found["mean"], found["ci95"], "+")
    if f"{other} - {name}" in paired:
        found = paired[f"{other} - {name}"]
        return _number(-found["mean"], [-end for end in reversed(found["ci95"])], "+")
    return ""


def scores(block: Mapping[str, Any], others: Sequence[str]) -> str:
    """Score, gap closure, differences to other arms, videos and seconds of each arm.

    Args:
        block: Of `Measured.summary`, the whole or a group.
        others: What differences are taken from.
    """
    head = ["arm", "score", "gap closure", *(f"minus `{name}`" for name in others), "videos", "s/prompt", "n"]
    rows = []
    for name, arm in block["arms"].items():
        closed = block["gap_closure"].get(name)
        share = _number(closed, block["gap_closure_ci95"][name]) if closed is not None else ""
        rows.append([
            name, _number(arm["mean"], arm["ci95"]), share, *(minus(block, name, other) for other in others),
            f"{arm['videos_per_prompt']:.3g}", f"{arm['seconds_per_prompt']:.2f}", str(arm["n"]),
        ])  # fmt: skip
    return table(head, rows)


def differences(blocks: Mapping[str, Mapping[str, Any]], pairs: Sequence[tuple[str, str]]) -> str:
    """Paired differences of arms, a column for each block.

    Args:
        blocks: Of `Measured.summary`, by what prompts they are of.
        pairs: An arm, and what it is compared with.
    """
    rows = [
        [f"`{name}` minus `{other}`", *(minus(block, name, other) for block in blocks.values())]
        for name, other in pairs
    ]
    return table(["difference", *blocks], rows)


def faithfulness(measured: Measured, names: Sequence[str], group: str = "") -> str:
    """What texts name of what users name, by attribute, and their length.

    Args:
        measured: The arms.
        names: Which arms.
        group: Which prompts.
    """
    rows = []
    for name in names:
        arm = measured.arms[name]
        count = float(np.mean([length(arm, prompt) for prompt in measured.part(group)]))
        rows.append([name, *_shares(measured, name, group, named_right), f"{count:.1f}"])
    return table(["arm", "named right", *_KEYS, "words"], rows)


def attributes(measured: Measured, names: Sequence[str], group: str = "") -> str:
    """What videos show of what users name, by attribute; arguments as in `faithfulness`."""
    rows = [[name, *_shares(measured, name, group, shown_right)] for name in names]
    return table(["arm", "shown", *_KEYS], rows)


def _shares(
    measured: Measured, name: str, group: str, measure: Callable[[Arm, str, Labels], dict[str, float]]
) -> list[str]:
    """The share of all attributes with its interval over prompts, and of each; a second body's count with the first's."""
    arm = measured.arms[name]
    found = [measure(arm, prompt, measured.labels) for prompt in measured.part(group)]
    found = [item for item in found if item]
    if not found:
        return [""] * (1 + len(_KEYS))
    right, counts = np.array([sum(item.values()) for item in found]), np.array([len(item) for item in found], float)
    whole = _number(float(right.sum() / counts.sum()), ratio_interval(right, counts))
    shares = []
    for key in _KEYS:
        values = [value for item in found for other, value in item.items() if other.removesuffix("_2") == key]
        shares.append(f"{np.mean(values):.3f}" if values else "")
    return [whole, *shares]
