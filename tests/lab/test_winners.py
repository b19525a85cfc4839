from __future__ import annotations

import pytest

from rapo_lightning.data.trajectory import TrajectoryStore
from rapo_lightning.lab.scripts import winners
from tests.data.test_trajectory import make_row
from tests.helpers import ROOT


def test_a_gate_keeps_what_fidelity_would_outvote(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["lab_oracle", "temporal_coherence", "text_fidelity"]
    store = TrajectoryStore(tmp_path / "trajectories", [*names, "a", "b"])
    scores = [(1.0, 0.1, 0.8), (0.2, 0.3, 1.0)]
    given = [dict(zip([f"score_{name}" for name in names], values, strict=True)) for values in scores]
    store.append([make_row(round_=number, **row) for number, row in enumerate(given)])
    winners.main([str(ROOT / "recipes/lab.yaml"), str(tmp_path)])
    told = capsys.readouterr().out
    assert "plain Average Ranking: 0.200" in told
    assert "the recipe's ranking: 1.000" in told
