"""`import` and `export`: the authors' log with its videos, judged, trained on, and written for other programs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rapo_lightning.cli import main
from rapo_lightning.data.csv_log import csv_text
from rapo_lightning.data.trajectory import by_prompt, read_rows
from rapo_lightning.data.videos import VideoStore
from rapo_lightning.lab.render import render_batch
from rapo_lightning.lab.scene import Body, Scene
from rapo_lightning.verifiers import Judgement, View
from tests.helpers import tiny_recipe

NAMES = ["lab_oracle", "temporal_coherence", "counting"]
ALLOW = ("--allow_package", "tests")
COLOURS = {"0000001_r1": "blue", "0000001_r2": "red", "0000001_r3": "blue", "0000002_r1": "red", "0000003_r1": "blue"}
PROMPTS = "captions,phys_law\na red ball rising in winter,\na red ball rising,buoyancy\na blue ball rising,\n"
LOG = [
    [
        "0000001",
        1,
        "results/0000001_r1.mp4",
        "[Physics] It rises.  ||  [VLM] The ball is blue.",
        "a red ball, it rises",
    ],
    ["0000001", 2, "results/0000001_r2.mp4", "[Physics] Fine.  ||  [VLM] Fine.", "a crimson ball"],
    ["0000001", 3, "results/0000001_r3.mp4", "[Physics] Fine.  ||  [VLM] Blue.", "a ball"],
    ["0000002", 1, "results/0000002_r1.mp4", "", "a red balloon"],
    ["0000002", 2, "results/0000002_r2.mp4", "", "a balloon"],
    ["0000003", 1, "results/0000003_r1.mp4", "", "a blue balloon"],
]


class Counting:
    """A verifier that counts how many videos it has seen, and in batches of which rates."""

    name = "counting"
    seen: list[float] = []

    def judge(self, views: list[View], models: object) -> list[Judgement]:
        assert len({view.fps for view in views}) == 1
        Counting.seen += [view.fps for view in views]
        return [Judgement(0.5) for _ in views]


@pytest.fixture
def folder(tmp_path: Path, language_model: Path) -> Path:
    """Log, input, videos (one missing, one of another rate) and a recipe."""
    store = VideoStore(tmp_path)
    for name, colour in COLOURS.items():
        scene = Scene((Body("ball", colour, "large"),), "snow", "rise")
        clip = render_batch([scene], np.random.default_rng(0))[0].permute(0, 2, 3, 1).numpy()
        rate = 12.0 if name == "0000003_r1" else 8.0
        store.write(f"made/{name}.mp4", (clip * 255).round().astype(np.uint8), rate, lambda: None)
    store.flush()
    (tmp_path / "log.csv").write_text(csv_text(LOG))
    (tmp_path / "examples.csv").write_text(PROMPTS)
    verifiers = ["rapo_lightning.lab.verifier.LabOracle", "rapo_lightning.verifiers.TemporalCoherence",
                 f"{__name__}.Counting"]  # fmt: skip
    tiny_recipe(
        tmp_path, language_model, prompts=str(tmp_path / "examples.csv"), video_model={}, stage3__epochs=1,
        stage3__pairs=[{"filter": "winner"}, {"filter": "margin"}], stage2__verifiers=[{"class_path": name} for name in verifiers],
    )  # fmt: skip
    Counting.seen = []
    return tmp_path


def run(folder: Path, *more: str, out: str = "run") -> int:
    recipe, place = str(folder / "tiny.yaml"), ("--out", str(folder / out))
    return main(["import", recipe, str(folder / "log.csv"), "--videos", str(folder / "made"), *place, *more, *ALLOW])


def rows_of(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["source_prompt"], row["round"]): row for row in read_rows(folder / "trajectories")}


def test_a_log_becomes_trajectories_that_are_judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    told = capsys.readouterr().out
    assert "1 rounds have no score: their video is missing." in told
    assert "6 rows of 3 prompts" in told
    rows = rows_of(folder / "run")
    first, second, third = (rows["a red ball rising in winter", number] for number in range(3))
    assert first["prompt"] == first["source_prompt"]
    assert (second["prompt"], second["next_prompt"]) == ("a red ball, it rises", "a crimson ball")
    assert third["next_prompt"] == "a ball"
    assert second["score_lab_oracle"] > first["score_lab_oracle"]
    assert first["critique"].startswith("The ball is blue. The video shows")
    assert first["physics"] == "It rises."
    assert "It goes up" in first["motion"]
    assert first["seed"] is None
    assert first["video_model"] == first["language_model"] == ""
    for row in (first, second, third):
        assert (folder / "run" / row["video"]).is_file()
    lost = rows["a red ball rising", 1]
    assert lost["video"] == ""
    assert lost["score_lab_oracle"] is lost["score_counting"] is None
    assert "The video is missing" in lost["critique"]
    assert rows["a red ball rising", 0]["phys_law"] == "buoyancy"
    assert sorted(Counting.seen) == [8.0] * 4 + [12.0]


def test_the_run_can_be_trained_on_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    assert main(["report", str(folder / "run")]) == 0
    assert main(["finetune", str(folder / "tiny.yaml"), "--out", str(folder / "run"), *ALLOW]) == 0
    told = capsys.readouterr().out
    # The other prompts have one video each, that of the user's own words.
    assert "1 pairs from 3 prompts" in told
    assert "left after winner 3, margin 1)" in told
    assert (folder / "run/refiner/adapter_config.json").is_file()


def test_run_again_nothing_is_judged_and_a_longer_log_is_gone_on_with(folder: Path) -> None:
    (folder / "log.csv").write_text(csv_text(LOG[:2]))
    assert run(folder) == 0
    assert len(Counting.seen) == 2
    before = rows_of(folder / "run")
    assert run(folder) == 0
    assert len(Counting.seen) == 2
    assert rows_of(folder / "run") == before
    (folder / "log.csv").write_text(csv_text(LOG))
    assert run(folder) == 0
    assert len(Counting.seen) == 5
    assert main(["finetune", str(folder / "tiny.yaml"), "--out", str(folder / "run"), *ALLOW]) == 0


def test_a_video_that_comes_later_is_judged_then(folder: Path) -> None:
    assert run(folder) == 0
    shutil.copy(folder / "made/0000002_r1.mp4", folder / "made/0000002_r2.mp4")
    assert run(folder) == 0
    hashes = {row["recipe_hash"] for row in read_rows(folder / "run/trajectories")}
    assert len(hashes) == 2
    newest = [row for row in read_rows(folder / "run/trajectories") if row["prompt"] == "a red balloon"]
    assert sorted(row["score_counting"] is None for row in newest) == [False, True]


def test_a_killed_import_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(folder, out="whole") == 0
    judge = Counting.judge

    def killed(self: Counting, views: list[View], models: object) -> list[Judgement]:
        if len(Counting.seen) >= 7:
            raise KeyboardInterrupt
        return judge(self, views, models)

    monkeypatch.setattr(Counting, "judge", killed)
    assert run(folder, "--stage2.batch_size", "2") == 1
    assert 0 < len(rows_of(folder / "run")) < 6
    monkeypatch.undo()
    assert run(folder, "--stage2.batch_size", "2") == 0
    times = ("seconds_judge",)
    whole, found = rows_of(folder / "whole"), rows_of(folder / "run")
    assert {key: {**row, **dict.fromkeys(times)} for key, row in found.items()} == {
        key: {**row, **dict.fromkeys(times)} for key, row in whole.items()
    }
    assert len(Counting.seen) == 10


def test_a_cut_or_broken_video_has_no_score_and_the_rest_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rapo_lightning.data import videos

    whole = (folder / "made/0000001_r1.mp4").read_bytes()
    (folder / "made/0000001_r1.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "made/0000002_r1.mp4").write_bytes(b"")
    # A file whose index promises more frames than it holds.
    count, target = videos.count_frames, folder / "made/0000003_r1.mp4"
    monkeypatch.setattr(videos, "count_frames", lambda path: count(path) + (4 if path == target else 0))
    assert run(folder, "--stage2.save_videos", "false") == 0
    told = capsys.readouterr().out
    assert "2 rounds have no score: their video cannot be read." in told
    assert "1 rounds have no score: their video is cut off." in told
    rows = rows_of(folder / "run")
    broken = rows["a red ball rising in winter", 0]
    assert broken["score_lab_oracle"] is None
    assert broken["critique"] == "The ball is blue. The video cannot be read: there is no frame in it."
    assert "cut off after 17 of 21 frames" in rows["a blue ball rising", 0]["critique"]
    assert rows["a red ball rising in winter", 1]["score_lab_oracle"] is not None
    assert not (folder / "run/videos").exists()


def test_bad_input_is_one_sentence_before_any_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*more: str) -> str:
        assert run(folder, *more) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert not (folder / "run/trajectories").exists()
        return error

    assert "`--videos` must name a folder" in fails("--videos", str(folder / "none"))
    (folder / "empty").mkdir()
    assert "with none of its 6 rounds" in fails("--videos", str(folder / "empty"))
    assert "Got '', which is not there" in fails("--prompts", "")
    (folder / "one.csv").write_text("captions,phys_law\na ball,\n")
    assert "Got 2 in line 4" in fails("--prompts", str(folder / "one.csv"))
    (folder / "log.csv").write_text("")
    assert "Got the empty file" in fails()


def test_collected_trajectories_are_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rapo_lightning.data.trajectory import TrajectoryStore

    assert run(folder) == 0
    (row, *_) = read_rows(folder / "run/trajectories")
    TrajectoryStore(folder / "other/trajectories", NAMES).append([{**row, "seed": 3, "recipe_hash": "x"}])
    assert run(folder, out="other") == 2
    assert "which has collected ones" in capsys.readouterr().err


def test_a_run_is_exported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    out = folder / "bench"
    assert main(["export", str(folder / "run"), "--csv", str(folder / "all.csv"), "--prompts", str(out)]) == 0
    assert "3 prompts in" in capsys.readouterr().out
    exported = list(csv.DictReader((folder / "all.csv").open(newline="")))
    rows = read_rows(folder / "run/trajectories")
    assert set(exported[0]) == set(rows[0])
    for found, row in zip(exported, rows, strict=True):
        assert json.loads(found["flow"]) == pytest.approx(np.asarray(row["flow"]))
        score = row["score_lab_oracle"]
        assert found["score_lab_oracle"] == ("" if score is None else str(float(f"{score:.7g}")))
        assert (found["prompt"], found["seed"], found["round"]) == (row["prompt"], "", str(row["round"]))
    best = {row["prompt"]: row for row in csv.DictReader((out / "prompts.csv").open(newline=""))}
    assert best["a red ball rising in winter"] == {
        "video": "a red ball rising in winter-0.mp4", "prompt": "a red ball rising in winter", "phys_law": "",
        "refined": "a red ball, it rises",
    }  # fmt: skip
    assert json.loads((out / "prompt_file.json").read_text()) == {row["video"]: name for name, row in best.items()}
    sources, refined = ((out / name).read_text().splitlines() for name in ("source.txt", "refined.txt"))
    assert dict(zip(sources, refined, strict=True)) == {name: row["refined"] for name, row in best.items()}
    # The list is one that `score` takes, once the videos are made.
    for rounds in by_prompt(rows).values():
        shutil.copy(folder / "made/0000001_r2.mp4", out / best[rounds[0]["source_prompt"]]["video"])
    scores = str(folder / "scores.csv")
    assert main(["score", str(folder / "tiny.yaml"), "--videos", str(out), "--output", scores, *ALLOW]) == 0
    assert len(Path(scores).read_text().splitlines()) == 4


def test_what_the_refiner_wrote_is_exported(tmp_path: Path) -> None:
    # A prompt that has two laws is refined twice.
    (tmp_path / "r.csv").write_text("prompt,refined,refiner\nb,B,x\na,A,x\nb,B,x\n")
    assert main(["export", str(tmp_path / "r.csv"), "--prompts", str(tmp_path / "out"), "--samples", "2"]) == 0
    assert list(json.loads((tmp_path / "out/prompt_file.json").read_text())) == [
        "b-0.mp4", "b-1.mp4", "a-0.mp4", "a-1.mp4"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "`--push_refiner OWNER/NAME`. Got none of them"),
        (["run", "--prompts", "out", "--samples", "0"], "`--samples` must be 1 or more. Got 0"),
        (["none", "--csv", "a.csv"], "Got 'none'; run `collect` or `import` first"),
        (["none", "--prompts", "out"], "Got 'none', which has no recipe.yaml"),
        (["a.csv", "--prompts", "out"], "needs the columns prompt and refined"),
    ],
)
def test_a_bad_export_is_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("prompt,other\na,b\n")
    assert main(["export", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()
