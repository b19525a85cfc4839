"""A video model that is an outside program, which hangs, crashes, and writes too little."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models import CommandVideoModel, ModelPool, outside_program
from rapo_lightning.recipe import components
from rapo_lightning.recipe.components import build
from rapo_lightning.recipe.identity import component_identity
from tests.helpers import ROOT, WordEmbedder, tiny_recipe

ENGINE = str(ROOT / "tests/outside_engine.py")
PATH = "rapo_lightning.models.CommandVideoModel"
PROMPTS, SEEDS = ["a dog", "a red ball", "a cat on a sofa"], [11, 50, 120]


def command(how: str = "well", seeds: str = "{seeds}") -> list[str]:
    return [sys.executable, ENGINE, "{prompts}", "{output}", seeds, how]


def model(how: str = "well", **more: Any) -> CommandVideoModel:
    # The way is no part of the videos: another one is the same program, mended.
    made = CommandVideoModel(command("WAY"), "engine", **{"videos": "clip_{index}_*.mp4", "fps": 8.0, **more})
    made.command[-1] = how
    return made


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ENGINE_RECORD", str(tmp_path / "record"))
    monkeypatch.setattr(outside_program, "_GRACE", 0.5)
    return tmp_path / "record"


def runs(record: Path) -> list[int]:
    return [int(line.split()[0]) for line in record.read_text().splitlines()]


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache/videos").rglob("*") if path.is_file())


def is_whole(videos: list[np.ndarray]) -> None:
    assert [video.shape for video in videos] == [(5, 32, 32, 3)] * 3
    for video, seed in zip(videos, SEEDS, strict=True):
        assert abs(int(video[0, -1, -1, 0]) - seed) < 12


def test_a_file_of_prompts_becomes_videos_in_order(tmp_path: Path, record: Path) -> None:
    is_whole(model().generate(PROMPTS, SEEDS))
    assert runs(record) == [3]
    is_whole(model(batch_size=2).generate(PROMPTS, SEEDS))
    assert runs(record) == [3, 2, 1]
    # Nothing stays behind: who asked has the frames.
    assert left(tmp_path) == []
    videos = model().generate(["a dog", "a dog", "two\nlines"], [11, 11, 12])
    np.testing.assert_array_equal(videos[0], videos[1])


def test_a_program_that_knows_one_seed_is_run_for_each(record: Path) -> None:
    alone = CommandVideoModel(command(seeds="{seed}"), "engine", videos="clip_{index}_*.mp4")
    is_whole(alone.generate(PROMPTS, SEEDS))
    assert runs(record) == [1, 1, 1]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("crash", r"exit code 0. Got 3 and 1 of 3 videos \(CUDA error: device on fire\)"),
        ("few", r"a video of each prompt. Got 2 of 3 videos, and for 'a red ball' 0 files called 'clip_1_\*.mp4'"),
        ("half", r"Got 2 of 3 videos, and for 'a red ball' clip_1_s50.mp4, which is no whole video: The video "),
        ("twice", r"Got 0 of 3 videos, and for 'a dog' 2 files called"),
        ("hang", r"within `timeout`, 4 s. Got 1 of 3 videos by then; its output is in .*log.txt"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_whole_videos_stay(
    how: str, told: str, tmp_path: Path, record: Path
) -> None:
    with pytest.raises(RunError, match=told) as caught:
        model(how, timeout=4.0 if how == "hang" else 60.0).generate(PROMPTS, SEEDS)
    assert "\n" not in str(caught.value)
    assert "run the same command again" in str(caught.value)
    whole = {"crash": 1, "few": 2, "half": 2, "twice": 0, "hang": 1}[how]
    assert len([name for name in left(tmp_path) if name.endswith(".mp4")]) == whole
    assert "log.txt" in left(tmp_path)
    # Mended, it makes the rest alone.
    is_whole(model().generate(PROMPTS, SEEDS))
    assert runs(record) == [3, 3 - whole]
    assert left(tmp_path) == []


def test_at_its_time_limit_a_program_ends_with_its_children(record: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(RunError, match="within `timeout`"):
        model("hang", timeout=3.0).generate(PROMPTS, SEEDS)
    assert time.monotonic() - begun < 20
    child = int(Path(f"{record}.child").read_text())
    for _ in range(50):
        if not _is_alive(child):
            break
        time.sleep(0.1)
    assert not _is_alive(child)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


_KILLED = """
import sys
from tests.models.test_command_video import PROMPTS, SEEDS, model
model("hang", timeout=100.0).generate(PROMPTS, SEEDS)
"""


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path, record: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", _KILLED], cwd=ROOT, env=environment)
    waiting = Path(f"{record}.child")
    for _ in range(600):
        if waiting.is_file():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    # Interrupted it ends its program; killed it could not.
    assert not _is_alive(int(waiting.read_text()))
    is_whole(model().generate(PROMPTS, SEEDS))
    assert runs(record) == [3, 2]
    assert left(tmp_path) == []


def test_the_program_sees_the_processes_own_gpu_and_no_launcher(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    for device in ("own", "all"):
        made = model(device=device)
        made.to(torch.device("cuda", 1))
        made.generate(["a"], [1])
    assert record.read_text().splitlines() == ["1 - 7", "1 - 5,7"]


def test_the_pool_gives_it_the_device_alone_where_models_are_swapped() -> None:
    places: list[torch.device] = []

    class Embedder(WordEmbedder):
        def to(self, device: torch.device) -> None:
            places.append(device)

    pool = ModelPool(video=model(), embedder=Embedder(), policy="swap", device=torch.device("meta"))
    _ = pool.embedder, pool.video
    assert [place.type for place in places] == ["meta", "cpu"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"command": ["x", "{prompts}", "{output}"]}, "Got one without {seed} or {seeds}"),
        ({"command": []}, "Got one without {prompts}, {output}"),
        ({"command": [*command(), "{checkpoint}"]}, "Got no `checkpoint`"),
        ({"command": command(), "checkpoint": "a/b"}, "Got one without {checkpoint}"),
        ({"command": command(), "videos": "*.mp4"}, "with {index} in it"),
        ({"command": command(), "videos": "../{index}.mp4"}, "must be a file's name"),
        ({"command": command(), "timeout": 0.0}, "timeout > 0"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told.replace("{", r"\{").replace("*", r"\*")):
        CommandVideoModel(**{"model": "engine", **arguments})


def test_a_program_or_folder_that_is_not_there_is_told_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must begin with a program. Got 'no-such-program'"):
        CommandVideoModel(["no-such-program", *command()[1:]], "engine").load()
    with pytest.raises(UserError, match="`working_folder` must be the folder"):
        model(working_folder=str(tmp_path / "none")).load()


def test_identity_has_the_command_and_not_how_it_is_run() -> None:
    def identity(**arguments: Any) -> Any:
        return component_identity({"class_path": PATH, "init_args": {"command": command(), "model": "e", **arguments}})

    first = identity()
    same: dict[str, Any] = {"batch_size": 2, "timeout": 9.0, "working_folder": "/x", "device": "all"}
    assert all(identity(**{name: value}) == first for name, value in same.items())
    assert identity(command=command("crash")) != first != identity(version="2")


def recipe(folder: Path, language_model: Path, how: str = "well") -> Path:
    init_args = {"command": command(how), "model": "engine", "videos": "clip_{index}_*.mp4", "fps": 8.0}
    return tiny_recipe(
        folder, language_model, limit=2, stage2__rounds=2, video_model={"class_path": PATH, "init_args": init_args}
    )


def test_a_recipe_runs_a_program_only_with_permission(
    tmp_path: Path, language_model: Path, record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = recipe(tmp_path, language_model), tmp_path / "run"
    arguments = ["collect", str(path), "--out", str(out), "--allow_package", "tests"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "`video_model` runs a program of the recipe's choice" in error
    assert f"{ENGINE} '{{prompts}}'" in error
    assert "`--allow_command`" in error
    assert error.count("\n") == 1
    assert not record.exists()
    assert main([*arguments, "--allow_command"]) == 0
    rows = read_rows(out / "trajectories")
    assert sorted(row["round"] for row in rows) == [0, 0, 1, 1]
    assert all(row["video_model"] == "engine" and (out / row["video"]).is_file() for row in rows)
    # A permission is one command's.
    assert main(["validate", str(path), "--allow_package", "tests"]) == 2
    count = len(runs(record))
    assert main([*arguments, "--allow_command"]) == 0
    assert len(runs(record)) == count


@pytest.mark.parametrize("words", ["allow_command: true", "allow_package: tests", "allow_package: [tests]"])
def test_no_recipe_gives_itself_permission(
    words: str, tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path, language_model)
    path.write_text(f"{path.read_text()}\n{words}\n")
    for given in ([str(path)], ["--config", str(path)]):
        assert main(["validate", *given]) == 2
        assert "are yours to give. Got one in a recipe" in capsys.readouterr().err
    assert not components.commands_allowed()


def test_a_failed_program_ends_the_run_and_the_next_one_goes_on(
    tmp_path: Path, language_model: Path, record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path, language_model, "crash")
    arguments = ["collect", str(path), "--out", str(tmp_path / "run"), "--allow_package", "tests", "--allow_command"]
    assert main(arguments) == 1
    assert "Got 3 and 1 of 2 videos" in capsys.readouterr().err
    # The second run asks for the one prompt that is missing, first in its file, where this program does not fail.
    assert main(arguments) in (0, 1)
    assert runs(record)[:2] == [2, 1]
    records = [json.loads(line) for line in (tmp_path / "run/records/generations.0.jsonl").read_text().splitlines()]
    assert len({item["prompt"] for item in records}) >= 2


def test_components_are_checked_and_built_with_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    component: Any = {"class_path": PATH, "init_args": {"command": command(), "model": "engine"}}
    with pytest.raises(UserError, match="needs your permission"):
        build(component, "video_model")
    monkeypatch.setitem(components._COMMANDS, "allowed", True)
    assert isinstance(build(component, "video_model"), CommandVideoModel)
