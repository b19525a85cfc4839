"""A video model that gives bad videos: each is recorded in its row, and the others of the batch go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from tests.helpers import tiny_recipe
from tests.verifiers.clips import moving_patch, rolling

VERIFIERS = ("TemporalCoherence", "MotionSmoothness", "Physics", "TextFidelity", "WordCount")


class Faulty:
    """A video model whose videos follow from the seed: a single frame, black, grey frames, or good."""

    name, fps, batch_size = "faulty", 8.0, 4

    def load(self) -> None: ...

    def to(self, device: torch.device) -> None: ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        good = moving_patch(rolling(9), (64, 64))
        kinds = [good[:1], np.zeros_like(good), good[..., 0], good]
        return [kinds[number % 4] for number in range(len(prompts))]


def test_bad_videos_are_recorded_and_the_rest_goes_on(tmp_path: Path, language_model: Path) -> None:
    recipe = tiny_recipe(
        tmp_path, language_model, limit=4, video_model={"class_path": f"{__name__}.Faulty"}, stage2__save_videos=False,
        stage2__rounds=2, stage2__batch_size=4,
        stage2__verifiers=[{"class_path": f"rapo_lightning.verifiers.{name}"} for name in VERIFIERS]
        + [{"class_path": "rapo_lightning.lab.verifier.LabOracle"}],
    )  # fmt: skip
    assert main(["collect", str(recipe), "--out", str(tmp_path / "run"), "--allow_package", "tests"]) == 0
    rows = [row for row in read_rows(tmp_path / "run/trajectories") if row["round"] == 0]
    assert len(rows) == 4
    said = {row["motion"].split(":")[0]: row for row in rows}
    single, broken = said["The video has a single frame."], said["The video cannot be read"]
    for row, sentence in ((single, "The video has a single frame."), (broken, "The video cannot be read: ")):
        assert row["flow"] == []
        assert row["score_temporal_coherence"] is None
        assert row["score_motion_smoothness"] is None
        assert row["score_word_count"] == 1.0
        assert sentence in row["critique"]
    black = said["Nothing moves."]
    assert black["score_temporal_coherence"] == black["score_motion_smoothness"] == 0.0
    assert "The video shows one plain colour." in black["critique"]
    (good,) = [row for row in rows if row["motion"].startswith("Motion covers")]
    assert good["score_temporal_coherence"] > 0.5
    assert good["flow"]
