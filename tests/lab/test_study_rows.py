"""The arms of an evaluation from its rows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from rapo_lightning.data.prompts import read_prompts
from rapo_lightning.data.store import Row
from rapo_lightning.data.trajectory import TrajectoryStore
from rapo_lightning.errors import UserError
from rapo_lightning.evaluation.module import LATEST
from rapo_lightning.lab.scripts.study import main
from rapo_lightning.lab.study.prompts import HELDOUT, held_out
from rapo_lightning.lab.study.rows import latest, read_run
from tests.data.test_trajectory import make_row
from tests.helpers import ROOT

PROMPTS = read_prompts(str(ROOT / HELDOUT), 3)


def rows(score: float, count: int = 3, **more: object) -> list[Row]:
    made = []
    for prompt in PROMPTS[:count]:
        row = {**make_row(prompt.id, 0, score, 0.0), "source_prompt": prompt.text, **more}
        made.append({key: value for key, value in row.items() if key != "score_b"})
    return made


def write(folder: Path, *parts: list[Row]) -> None:
    for number, part in enumerate(parts):
        TrajectoryStore(folder, ["a"]).append(part)
        for path in folder.glob("*.parquet"):
            if path.stat().st_mtime > 1e9:
                os.utime(path, (1000 + number, 1000 + number))


def test_arms_are_read_from_the_rows_that_were_made_last(tmp_path: Path) -> None:
    place = tmp_path / "evaluation/arms"
    write(place / "best.s0", rows(0.5, recipe_hash="old"), rows(0.9, recipe_hash="new"))
    write(place / "best.s1", rows(0.7))
    write(place / "unfinished", rows(0.1, count=2))
    write(place / "sspo", rows(0.8))
    write(
        tmp_path / "evaluation/loop-sspo/trajectories",
        [row | {"round": number} for number in range(2) for row in rows(0.1)],
    )
    assert [row["score_a"] for row in latest(place / "best.s0")] == pytest.approx([0.9] * 3)
    # Copied without their times, rows are told by what the last evaluation noted.
    (tmp_path / "noted").mkdir()
    for number, path in enumerate(sorted((place / "best.s0").glob("*.parquet"))):
        (tmp_path / "noted" / path.name).write_bytes(path.read_bytes())
        os.utime(tmp_path / "noted" / path.name, (2000 - number, 2000 - number))
    for hashes, score in ((["old"], 0.5), (["new", "other"], 0.9)):
        (tmp_path / "noted" / LATEST).write_text(json.dumps(hashes))
        assert [row["score_a"] for row in latest(tmp_path / "noted")] == pytest.approx([score] * 3)
    arms, costs = read_run(tmp_path, PROMPTS)
    assert set(arms) == {"best", "sspo@2"}
    assert arms["best"].by_training() == pytest.approx([0.9, 0.7])
    assert np.allclose(arms["best"].scores([prompt.id for prompt in PROMPTS]), 0.8)
    assert {video.group for videos in arms["best"].videos.values() for video in videos} == {PROMPTS[0].group}
    assert (costs["best"].videos, costs["sspo@2"].videos) == (1.0, 2.0)
    assert costs["sspo@2"].seconds > costs["best"].seconds


def test_no_rows_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="Got no arm with all prompts"):
        read_run(tmp_path, PROMPTS)
    assert main(["--out", str(ROOT / "docs/study"), "--parts", "report", "--regimes", "unknown"]) == 2
    assert "Got no rows of it" in capsys.readouterr().err


def test_the_shipped_rows_have_all_prompts() -> None:
    arms, costs = read_run(ROOT / "docs/study/evaluate-known", held_out(360, 100))
    assert {
        "raw",
        "reference",
        "chance",
        "dictionary",
        "stage1",
        "rewriter",
        "sspo@5",
        "blind@5",
        "refiner+sspo@5",
    } <= set(arms)
    assert len(arms["best"].trainings) == 3
    assert all(len(videos) == 9 for videos in arms["best"].videos.values())
    assert costs["sspo@5"].videos == pytest.approx(1.8, abs=0.01)
