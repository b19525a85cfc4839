from __future__ import annotations

from typing import Any

import pytest
import torch

from rapo_lightning.recipe import Optimizer
from rapo_lightning.stage3.schedule import learning_rates


@pytest.mark.parametrize(
    ("schedule", "half", "last"), [("cosine", 0.5, 0.0), ("linear", 0.5, 0.0), ("constant", 1.0, 1.0)]
)
def test_a_rate_rises_and_then_does_as_its_schedule_says(schedule: Any, half: float, last: float) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    rates = learning_rates(optimizer, Optimizer(lr=2.0, warmup_share=0.2, schedule=schedule), 10)
    found = []
    for _ in range(11):
        found.append(optimizer.param_groups[0]["lr"] / 2)
        optimizer.step()
        rates.step()
    assert found[:3] == [0.0, 0.5, 1.0]
    assert (found[6], found[10]) == pytest.approx((half, last))


@pytest.mark.parametrize("wrong", [{"clip": -1.0}, {"clip": float("nan")}, {"spike": 0.5}, {"spike": -1.0}])
def test_clip_and_spike_have_ranges(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs clip >= 0, and a spike above 1"):
        Optimizer(**wrong)  # type: ignore[arg-type]
