"""A video model that gives bad videos: each is recorded in its row, and the others of the batch go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.data.videos import count_frames
from rapo_lightning.models import DiffusersVideoModel
from rapo_lightning.stage2 import screening
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


Break = Callable[[np.ndarray], Any]
BREAKS: dict[str, Break] = {
    "no numbers": lambda video: np.where(np.arange(64)[:, None] < 3, np.nan, video / 255.0),
    "black": lambda video: video * 0,
    "one frame": lambda video: video[:1],
    "grey": lambda video: video[..., 0],
    "floats": lambda video: video / 255.0,
    "first the channels": lambda video: video.transpose(0, 3, 1, 2),
    "no frame": lambda video: video[:0],
    "a list": lambda video: list(video),
    "nothing": lambda video: None,
    "whole": lambda video: video,
}


class Broken(DiffusersVideoModel):
    """A user's class around a real pipeline, which breaks some of its videos."""

    calls = 0

    def __init__(self, checkpoint: str, call: dict[str, Any], breaks: list[str], batch_size: int = 4) -> None:
        super().__init__(checkpoint, call=call, fps=8.0, dtype="float32", batch_size=batch_size)
        self.breaks = breaks

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        Broken.calls += 1
        videos = super().generate(prompts, seeds)
        return [BREAKS[name](video) for name, video in zip(self.breaks, videos, strict=False)]


def collect(folder: Path, language_model: Path, breaks: list[str]) -> int:
    call = {"height": 64, "width": 64, "num_frames": 5, "num_inference_steps": 1, "guidance_scale": 1.0,
            "max_sequence_length": 64}  # fmt: skip
    recipe = tiny_recipe(
        folder, language_model, limit=4, stage2__rounds=1, stage2__batch_size=4,
        video_model={"class_path": f"{__name__}.Broken",
                     "init_args": {"checkpoint": "lab/video_model", "call": call, "breaks": breaks}},
    )  # fmt: skip
    return main(["collect", str(recipe), "--out", str(folder / "run"), "--allow_package", "tests"])


def test_a_pipelines_broken_videos_are_recorded_and_not_made_again(
    tmp_path: Path, language_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    breaks = ["no numbers", "black", "one frame", "whole"]
    screening._warn_of_numbers.cache_clear()
    before = Broken.calls
    assert collect(tmp_path, language_model, breaks) == 0
    assert Broken.calls == before + 1
    assert "pixels that are no numbers" in caplog.text
    run = tmp_path / "run"
    rows = {row["prompt"]: row for row in read_rows(run / "trajectories")}
    records = [json.loads(line) for line in (run / "records/generations.0.jsonl").read_text().splitlines()]
    assert len(rows) == len(records) == 4
    numbers, black, single, whole = (
        next(rows[record["prompt"]] for record in records if test(record))
        for test in (
            lambda record: record.get("fault"),
            lambda record: rows[record["prompt"]]["motion"] == "Nothing moves.",
            lambda record: record["frames"] == 1,
            lambda record: record["frames"] == 5 and rows[record["prompt"]]["motion"] != "Nothing moves.",
        )
    )
    assert numbers["video"] == ""
    assert numbers["score_temporal_coherence"] is numbers["score_lab_oracle"] is None
    assert numbers["motion"] == "The video has pixels that are no numbers."
    assert numbers["motion"] in numbers["critique"]
    assert black["score_temporal_coherence"] == 0.0
    assert single["score_temporal_coherence"] is None
    assert count_frames(run / single["video"]) == 1
    assert whole["score_temporal_coherence"] is not None
    # Run again, nothing is made: a video that is unusable is done.
    assert collect(tmp_path, language_model, breaks) == 0
    assert Broken.calls == before + 1
    assert {row["prompt"]: row for row in read_rows(run / "trajectories")} == rows


def test_a_wrong_shape_among_videos_is_recorded(tmp_path: Path, language_model: Path) -> None:
    assert collect(tmp_path, language_model, ["grey", "whole", "floats", "whole"]) == 0
    rows = read_rows(tmp_path / "run/trajectories")
    assert sorted(bool(row["video"]) for row in rows) == [False, False, True, True]
    assert sum("of shape (5, 64, 64)." in row["critique"] for row in rows) == 1
    assert sum("float64 of shape (5, 64, 64, 3)." in row["critique"] for row in rows) == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("grey", "uint8 of shape (5, 64, 64)"),
        ("floats", "float64 of shape (5, 64, 64, 3)"),
        ("first the channels", "uint8 of shape (5, 3, 64, 64)"),
        ("no frame", "uint8 of shape (0, 64, 64, 3)"),
        ("a list", "list of shape ()"),
        ("nothing", "NoneType of shape ()"),
    ],
)
def test_a_class_that_makes_no_video_at_all_is_one_sentence(
    name: str, told: str, tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert collect(tmp_path, language_model, [name] * 4) == 1
    error = capsys.readouterr().err
    assert f"of shape (frames, height, width, 3), RGB. Got {told} from tests.stage2.test_bad_videos.Broken; " in error
    assert error.count("\n") == 1


def test_a_video_too_few_is_one_sentence(
    tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert collect(tmp_path, language_model, ["whole"] * 3) == 1
    assert "Got 3 of 4 from tests.stage2.test_bad_videos.Broken; " in capsys.readouterr().err
