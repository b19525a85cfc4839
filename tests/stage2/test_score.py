"""`score`: a user's own videos, whole, cut off, or none."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from rapo_lightning.cli import main
from rapo_lightning.data.videos import VideoStore
from rapo_lightning.lab.render import render_batch
from rapo_lightning.lab.scene import Body, Scene

RECIPE = """
stage2:
  verifiers:
    - class_path: rapo_lightning.verifiers.TemporalCoherence
    - class_path: rapo_lightning.lab.verifier.LabOracle
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Videos of a red ball, the same cut off, another size and rate, and a file that is no video."""
    clip = render_batch([Scene((Body("ball", "red", "large"),), "snow", "rise")], np.random.default_rng(0))[0]
    frames = (clip.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    store = VideoStore(tmp_path)
    store.write("videos/ball.mp4", frames, 8.0, lambda: None)
    store.write("videos/wide.mp4", np.zeros((6, 48, 96, 3), np.uint8), 24.0, lambda: None)
    store.flush()
    videos = tmp_path / "videos"
    (videos / "cut.mp4").write_bytes((videos / "ball.mp4").read_bytes()[:-400])
    (videos / "none.mp4").write_bytes(b"no video")
    rows = ["video,prompt"] + [f"{name}.mp4,a red ball rising in winter" for name in ("ball", "wide", "cut", "none")]
    (videos / "prompts.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return videos


def score(folder: Path, *more: str) -> int:
    return main(["score", str(folder.parent / "recipe.yaml"), "--videos", str(folder), *more])


def test_videos_are_scored_and_what_cannot_be_read_is_said(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    assert score(folder, "--output", str(output)) == 0
    rows = {row["video"]: row for row in csv.DictReader(output.open())}
    assert float(rows["ball.mp4"]["score_lab_oracle"]) > 0.7
    assert rows["ball.mp4"]["score_temporal_coherence"]
    assert rows["wide.mp4"]["score_lab_oracle"] == ""
    assert "64 x 64" in rows["wide.mp4"]["critique"]
    assert "cannot be read" in rows["none.mp4"]["file"]
    assert rows["none.mp4"]["score_lab_oracle"] == ""
    assert rows["cut.mp4"]["file"]


def test_a_half_written_table_goes_on_and_others_are_refused(folder: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "out.csv"
    assert score(folder, "--output", str(output)) == 0
    whole = output.read_text()
    output.write_text("".join(whole.splitlines(keepends=True)[:3]))
    assert score(folder, "--output", str(output)) == 0
    assert output.read_text() == whole
    (tmp_path / "recipe.yaml").write_text(
        RECIPE.replace("    - class_path: rapo_lightning.lab.verifier.LabOracle\n", "")
    )
    assert score(folder, "--output", str(output)) == 2
    assert "must have the columns" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("", "no row"),
        ("name,prompt\na,b\n", "columns name, prompt"),
        ("video,prompt\n../recipe.yaml,a ball\n", "must name a file in"),
        ("video,prompt\nlost.mp4,a ball\n", "must name a file in"),
        ("video,prompt\nball.mp4,\n", "must name a file in"),
    ],
)
def test_a_bad_table_is_one_sentence(folder: Path, table: str, told: str, capsys) -> None:
    (folder / "prompts.csv").write_text(table or "video,prompt\n")
    assert score(folder) == 2
    assert told in capsys.readouterr().err


def test_a_folder_that_is_none_is_one_sentence(folder: Path, capsys) -> None:
    assert main(["score", str(folder.parent / "recipe.yaml"), "--videos", str(folder / "lost")]) == 2
    assert "`--videos` must name a folder" in capsys.readouterr().err
