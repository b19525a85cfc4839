"""What a loop's cycles gained: paired on the same prompts, when to stop, and which cycle is the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import RunError
from ..evaluation.statistics import Floats, bootstrap_interval

RAW = "raw"
"""What the first cycle is compared with."""


@dataclass(frozen=True)
class Gain:
    """A refiner's score minus another's on the same prompts and seeds.

    Attributes:
        over: What it is compared with: `raw`, or a cycle's name.
        mean: Mean difference over the prompts that both have a score of.
        low: Lower end of its 95 % percentile bootstrap interval.
        high: Upper end.
        n: Number of those prompts.
    """

    over: str
    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """`+0.120 [+0.050, +0.190]`."""
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True)
class Cycle:
    """One turn of collect, finetune and evaluate.

    Attributes:
        number: From 1.
        refiner: Identity of its refiner.
        pairs: Training pairs.
        validation_pairs: Pairs that were held out for the validation loss.
        val_loss: Loss of the exported epoch per token; None if it is not known.
        arms: Mean, interval and number of prompts of `raw` and `refiner`, as in `results.json`.
        scores: The refiner's, one per held-out prompt, in the same order in every cycle; NaN where one is missing.
        gain: Over the cycle before, the first over the raw prompts.
    """

    number: int
    refiner: str
    pairs: int
    validation_pairs: int
    val_loss: float | None
    arms: dict[str, dict[str, Any]]
    scores: Floats
    gain: Gain

    @property
    def name(self) -> str:
        """Name of its run folder."""
        return f"cycle-{self.number}"


def paired_gain(scores: Floats, before: Floats, over: str) -> Gain:
    """The gain of one row of scores over another.

    Args:
        scores: `(prompts,)`, NaN where there is none.
        before: Those it is compared with, in the same order.
        over: Their name.

    Raises:
        RunError: If no prompt has a score in both.
    """
    known = np.isfinite(scores) & np.isfinite(before)
    if not known.any():
        raise RunError(
            f"A cycle is compared on prompts that the metric scores for it and for {over}. Got none of {len(scores)}; look "
            "whether the metric understands the prompts."
        )
    difference = (scores - before)[known]
    low, high = bootstrap_interval(difference)
    return Gain(over, float(difference.mean()), low, high, int(known.sum()))


def stop_reason(cycle: Cycle, cycles: int, early: bool = True) -> str:
    """Why a loop ends after a cycle; empty where it goes on (the rule is ours).

    It goes on while the whole interval of the gain is above zero: one that holds zero may be luck, one below it is a loss.

    Args:
        cycle: The last cycle.
        cycles: How many there shall be at most.
        early: Whether the rule counts.
    """
    gain = cycle.gain
    if early and gain.low <= 0:
        found = "holds zero" if gain.high >= 0 else "is below zero"
        return f"stopped after cycle {cycle.number}: the interval of its gain over {gain.over}, {gain} on {gain.n} prompts, {found}"
    return f"stopped after cycle {cycle.number}: all {cycles} cycles are done" if cycle.number >= cycles else ""


def best_cycle(done: Sequence[Cycle]) -> Cycle:
    """The cycle with the best refiner: each is compared with the best before it, on the prompts of both; earlier on a tie.

    Args:
        done: The cycles in order, at least one.
    """
    best, *later = done
    for cycle in later:
        difference = cycle.scores - best.scores
        known = np.isfinite(difference)
        if known.any() and difference[known].mean() > 0:
            best = cycle
    return best


def loop_summary(done: Sequence[Cycle], metric: str, reason: str) -> dict[str, Any]:
    """The contents of `loop.json` (docs/stage3.md).

    Args:
        done: The cycles in order.
        metric: Name of the metric.
        reason: Why the loop ended; empty while it has not.
    """
    cycles = [
        {
            "cycle": cycle.number,
            "folder": cycle.name,
            "refiner": cycle.refiner,
            "pairs": cycle.pairs,
            "validation_pairs": cycle.validation_pairs,
            "val_loss": cycle.val_loss,
            "arms": {name: {key: arm[key] for key in ("mean", "ci95", "n")} for name, arm in cycle.arms.items()},
            "over": cycle.gain.over,
            "gain": {"mean": cycle.gain.mean, "ci95": [cycle.gain.low, cycle.gain.high], "n": cycle.gain.n},
        }
        for cycle in done
    ]
    return {"metric": metric, "cycles": cycles, "best": best_cycle(done).number if done else None, "stopped": reason}


def loop_table(done: Sequence[Cycle], metric: str) -> str:
    """A line per cycle, below one of the raw prompts.

    Args:
        done: The cycles in order, at least one.
        metric: Name of the metric.
    """
    best, width = best_cycle(done), max(len(metric), 5)
    lines = [
        f"{'cycle':5}  {'pairs':>5}  {'val loss':>8}  {metric:>{width}}  95 % interval   gain                      over"
    ]
    lines.append(f"{RAW:5}  {'':5}  {'':8}  {_mean(done[0].arms[RAW], width)}")
    for cycle in done:
        loss = f"{cycle.val_loss:8.4f}" if cycle.val_loss is not None else f"{'':8}"
        line = f"{cycle.number:<5}  {cycle.pairs:5}  {loss}  {_mean(cycle.arms['refiner'], width)}"
        lines.append(f"{line}  {cycle.gain!s:24}  {cycle.gain.over}{'  (best)' if cycle is best else ''}")
    return "\n".join(lines)


def _mean(arm: dict[str, Any], width: int) -> str:
    return f"{arm['mean']:{width}.3f}  [{arm['ci95'][0]:.3f}, {arm['ci95'][1]:.3f}]"
