from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kill_finetune import measure


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_adapter(language_model: Path, tmp_path: Path) -> None:
    outcomes = measure(3, tmp_path, language_model, seed=1)
    assert len(outcomes) == 3
    assert all(outcome.is_good(0.0) for outcome in outcomes), outcomes
