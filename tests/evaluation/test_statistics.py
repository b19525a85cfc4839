from __future__ import annotations

import json

import numpy as np
import pytest

from rapo_lightning.evaluation.arms import ArmResult, scores_in_order, summarize, table
from rapo_lightning.evaluation.statistics import bootstrap_interval, ratio_interval
from tests.data.test_trajectory import make_row


def test_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        low, high = bootstrap_interval(rng.normal(0.5, 0.2, 40))
        hits += low <= 0.5 <= high
    assert 88 <= hits <= 100


def test_interval_of_equal_values_is_the_value() -> None:
    assert bootstrap_interval([0.3, 0.3]) == (0.3, 0.3)
    with pytest.raises(ValueError, match="Got none"):
        bootstrap_interval([])


def test_ratio_interval_resamples_prompts_together() -> None:
    bottom = np.random.default_rng(0).random(50) + 0.5
    assert ratio_interval(bottom / 2, bottom) == pytest.approx((0.5, 0.5))


def results() -> dict[str, object]:
    arms = [("raw", 0.2), ("refiner", 0.5), ("reference", 0.8)]
    noise = np.linspace(-0.1, 0.1, 9)
    return summarize([ArmResult(name, mean + noise, 1, 0.5) for name, mean in arms], "lab_oracle", "hash")


def test_summary_has_the_contracts_fields() -> None:
    found = results()
    assert set(found) >= {"arms", "gap_closure", "metric", "recipe_hash"}
    assert set(found["arms"]["raw"]) == {"mean", "ci95", "n", "videos_per_prompt", "seconds_per_prompt"}  # type: ignore[index]
    assert found["gap_closure"] == pytest.approx({"refiner": 0.5})
    assert "refiner" in table(found)
    json.dumps(found)


def test_summary_without_a_ceiling_has_no_closure() -> None:
    found = summarize([ArmResult("raw", np.array([0.1]), 1, 0.1)], "m", "h")
    assert found["gap_closure"] == {}
    assert "raw" in table(found)


def test_scores_follow_the_prompts_and_missing_ones_are_zero() -> None:
    rows = [make_row("b", a=0.5), make_row("a", a=None)]
    assert scores_in_order(rows, ["a", "b"], "a").tolist() == [0.0, 0.5]
