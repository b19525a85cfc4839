from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest

from rapo_lightning.data.prompts import Prompt
from rapo_lightning.errors import RunError
from rapo_lightning.evaluation.arms import ArmResult, scores_in_order, summarize
from rapo_lightning.evaluation.statistics import bootstrap_interval, ratio_interval
from rapo_lightning.evaluation.table import left_out, scores_csv, table
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


def results() -> dict[str, Any]:
    arms = [("raw", 0.2), ("refiner", 0.5), ("reference", 0.8)]
    noise = np.linspace(-0.1, 0.1, 9)
    return summarize([ArmResult(name, mean + noise, 1, 0.5) for name, mean in arms], "lab_oracle", "hash")


def test_summary_has_the_contracts_fields() -> None:
    found = results()
    assert set(found) >= {
        "arms",
        "gap_closure",
        "gap_closure_ci95",
        "paired",
        "not_scored",
        "metric",
        "recipe_hash",
        "seeds",
    }
    assert set(found["arms"]["raw"]) == {"mean", "ci95", "n", "videos_per_prompt", "seconds_per_prompt"}
    assert found["gap_closure"] == pytest.approx({"refiner": 0.5})
    assert "refiner" in table(found)
    json.dumps(found, allow_nan=False)


def test_summary_without_a_ceiling_has_no_closure() -> None:
    found = summarize([ArmResult("raw", np.array([0.1]), 1, 0.1)], "m", "h")
    assert found["gap_closure"] == {}
    assert "raw" in table(found)


def test_a_prompts_score_is_the_mean_over_its_seeds_and_missing_if_one_is() -> None:
    rows = [make_row("b", a=0.5), make_row("b", a=1.0), make_row("a", a=None), make_row("a", a=0.5)]
    assert scores_in_order(rows, ["a", "b", "c"], "a").tolist() == pytest.approx([np.nan, 0.75, np.nan], nan_ok=True)


def noisy(*arms: tuple[str, float], count: int = 200) -> list[ArmResult]:
    """Arms that differ by a constant on prompts that differ much."""
    rng = np.random.default_rng(0)
    prompts = rng.normal(0, 1.0, count)
    return [ArmResult(name, prompts + mean + rng.normal(0, 0.01, count), 1, 0.1) for name, mean in arms]


def test_differences_are_paired() -> None:
    found = summarize(noisy(("raw", 0.0), ("stage1", 0.1)), "m", "h", compare="stage1")
    low, high = found["paired"]["stage1 - raw"]["ci95"]
    assert 0.09 < low < 0.1 < high < 0.11
    # The arms by themselves are far less certain than their difference.
    one, other = (found["arms"][name]["ci95"] for name in ("raw", "stage1"))
    assert one[1] > other[0]
    turned = found["arms"]["raw"]["difference"]
    assert turned["mean"] == -found["paired"]["stage1 - raw"]["mean"]
    assert turned["ci95"] == [-high, -low]
    assert "difference" not in found["arms"]["stage1"]
    assert "minus stage1" in table(found)
    assert f"{-high:+.3f}" in table(found)


def test_chance_stands_beside_every_score_and_has_no_closure() -> None:
    found = summarize(noisy(("raw", 0.2), ("chance", 0.3), ("refiner", 0.4), ("reference", 0.6)), "m", "h")
    assert found["chance"] == found["arms"]["chance"]["mean"]
    assert set(found["gap_closure"]) == {"refiner"}
    assert all(f"]   {found['chance']:.3f}  " in line for line in table(found).splitlines()[1:])


def test_groups_are_reported_by_themselves() -> None:
    arms = noisy(("raw", 0.0), ("stage1", 0.1), ("reference", 0.2), count=6)
    groups = ["new", "old", "old", "new", "new", ""]
    found = summarize(arms, "m", "h", groups)
    assert list(found["groups"]) == ["new", "old"]
    assert found["groups"]["new"]["arms"]["raw"]["mean"] == pytest.approx(arms[0].scores[[0, 3, 4]].mean())
    assert [block["arms"]["raw"]["n"] for block in (found, *found["groups"].values())] == [6, 3, 2]
    assert set(found["groups"]["old"]) >= {"arms", "gap_closure", "gap_closure_ci95", "paired"}
    assert "\nold:\n" in table(found)


def test_prompts_without_a_score_are_left_out_of_every_arm_and_named() -> None:
    prompts = [Prompt(text) for text in ("a", "no cat", "c", "d")]
    nan = np.nan
    arms = [
        ArmResult("raw", np.array([0.0, nan, 0.5, nan]), 1, 0.1),
        ArmResult("sspo@5", np.array([0.5, nan, 1.0, 1.0]), 5, 0.1, picked=np.array([1.0, nan, 1.0, 1.0])),
    ]
    found = summarize(arms, "m", "h", ["g", "g", "", ""])
    assert [arm["mean"] for arm in found["arms"].values()] == [0.25, 0.75]
    assert (found["not_scored"], found["not_scored_in_some"], found["arms"]["raw"]["n"]) == (2, 1, 2)
    assert found["arms"]["sspo@5"]["picked"] == 1.0
    assert found["groups"]["g"]["not_scored"] == 1
    assert left_out(found, arms, prompts) == (
        "2 of 4 prompts are left out of every arm: 1 have no score by m in any and 1 lack one in some ('no cat', 'd'; see "
        "scores.csv)."
    )
    lines = list(csv.DictReader(io.StringIO(scores_csv(arms, prompts))))
    assert [line["raw"] for line in lines] == ["0", "", "0.5", ""]
    assert [line["sspo@5"] for line in lines] == ["0.5", "", "1", "1"]
    with pytest.raises(RunError, match="Got none of 4"):
        summarize([ArmResult("raw", np.full(4, nan), 1, 0.1)], "m", "h")
