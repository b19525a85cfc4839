"""When a loop stops, and which of its cycles is the best."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rapo_lightning.cycles.gains import Cycle, Gain, best_cycle, loop_summary, loop_table, paired_gain, stop_reason
from rapo_lightning.errors import RunError
from rapo_lightning.evaluation.statistics import Floats

NAN = float("nan")


def scored(*values: float) -> Floats:
    return np.array(values)


def cycle(number: int, *scores: float, gain: Gain | None = None) -> Cycle:
    arm = {"mean": 0.5, "ci95": [0.4, 0.6], "n": 3, "videos_per_prompt": 1.0}
    gain = gain or Gain("raw", 0.1, 0.05, 0.2, 3)
    return Cycle(number, f"hash{number}", 40, 4, None, {"raw": arm, "refiner": arm}, scored(*scores), gain)


def test_a_gain_is_paired_on_the_prompts_that_both_have_a_score_of() -> None:
    # Prompts differ far more than the two rows do, so an unpaired interval would hold zero.
    before = scored(0.1, 0.9, 0.5, NAN, 0.3)
    gain = paired_gain(before + scored(0.1, 0.12, 0.08, 0.1, NAN), before, "cycle-1")
    assert (gain.n, gain.over) == (3, "cycle-1")
    assert gain.mean == pytest.approx(0.1)
    assert 0.079 < gain.low < gain.mean < gain.high < 0.121
    with pytest.raises(RunError, match="Got none of 2"):
        paired_gain(scored(NAN, 1.0), scored(1.0, NAN), "raw")


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        (0.01, 0.2, ""),
        (-0.01, 0.2, "holds zero"),
        (0.0, 0.0, "holds zero"),
        (0.0, 0.2, "holds zero"),
        (-0.2, -0.01, "is below zero"),
    ],
)
def test_a_loop_goes_on_while_the_interval_is_above_zero(low: float, high: float, reason: str) -> None:
    found = stop_reason(cycle(2, 0.5, gain=Gain("cycle-1", (low + high) / 2, low, high, 20)), 3)
    assert found.endswith(reason)
    assert bool(found) == bool(reason)


def test_a_loop_ends_after_its_last_cycle_and_without_the_rule_only_then() -> None:
    lucky = cycle(2, 0.5, gain=Gain("cycle-1", 0.0, -0.1, 0.1, 20))
    assert stop_reason(cycle(3, 0.5), 3) == "stopped after cycle 3: all 3 cycles are done"
    assert stop_reason(lucky, 3, early=False) == ""
    assert "2 cycles are done" in stop_reason(lucky, 2, early=False)


def test_the_best_cycle_is_compared_on_shared_prompts_and_the_earlier_one_on_a_tie() -> None:
    # The third has the highest mean, but of the easy prompt alone.
    done = [cycle(1, 0.2, 0.8), cycle(2, 0.3, 0.9), cycle(3, NAN, 0.9), cycle(4, 0.3, 0.9)]
    assert best_cycle(done).number == 2
    assert best_cycle(done[:1]).number == 1


def test_the_table_has_a_line_per_cycle_and_the_summary_is_json() -> None:
    done = [cycle(1, 0.2, 0.8), cycle(2, 0.3, 0.9, gain=Gain("cycle-1", 0.1, 0.1, 0.1, 2))]
    _, raw, *lines = loop_table(done, "lab_oracle").splitlines()
    assert raw.startswith("raw")
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert [line.endswith("(best)") for line in lines] == [False, True]
    found = json.loads(json.dumps(loop_summary(done, "lab_oracle", "")))
    assert (found["best"], [item["over"] for item in found["cycles"]]) == (2, ["raw", "cycle-1"])
    assert found["cycles"][1]["gain"] == {"mean": 0.1, "ci95": [0.1, 0.1], "n": 2}
