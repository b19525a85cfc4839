"""Collection by workers of a local Ray cluster of two CPUs, one of which is killed."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.kills import descendants
from rapo_lightning.cli import main
from rapo_lightning.data.prompts import Share, read_prompts
from rapo_lightning.data.trajectory import read_rows
from tests.collection.test_shards import generated
from tests.helpers import ROOT, tiny_recipe
from tests.test_pipeline import ALLOW, comparable

WORKER = "ray::MapWorker"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("recipe"), language_model)


def videos(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("videos/*/*"))}


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread here and in what is started: sums of another number of threads round otherwise, and a pixel may differ."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_killed_worker_is_made_anew_and_rows_are_those_of_one_process(recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert main(["collect", str(recipe), "--out", str(whole), *ALLOW]) == 0
    # Begun by another door: what a shard has made is not made again.
    assert main(["collect", str(recipe), "--out", str(folder), "--shard", "1/3", *ALLOW]) == 0
    begun = {prompt.id for prompt in Share(0, 3).of(read_prompts(str(recipe.parent / "prompts.csv")))}
    before = generated(folder)
    assert len(before) == 3 * len(begun) == 6
    options = ["--out", str(folder), "--engine", "ray", "--workers", "2", *ALLOW]
    run = subprocess.Popen(
        [sys.executable, "-m", "rapo_lightning", "collect", str(recipe), *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not list(folder.glob("records/rewrites.ray-*")) and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.02)
    workers = descendants(run.pid, WORKER)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert err == ""
    assert "6 prompts, 2 already complete" in out
    assert "4 of 4 prompts" in out
    assert comparable(read_rows(folder / "trajectories")) == comparable(read_rows(whole / "trajectories"))
    assert videos(folder) == videos(whole)
    assert [key for key in generated(folder) if key in before] == before
    # Nothing that was recorded was made again.
    assert len(set(generated(folder))) == len(generated(folder)) == 18
    assert not list(folder.rglob("*.tmp*"))
    assert not descendants(os.getpid(), "ray::")


def test_a_missing_ray_is_one_sentence(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    assert main(["collect", str(recipe), "--out", str(tmp_path / "run"), "--engine", "ray", *ALLOW]) == 2
    assert "pip install 'rapo-lightning[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_ray_under_torchrun_is_refused(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["collect", str(recipe), "--out", str(tmp_path / "run"), "--engine", "ray", *ALLOW]) == 2
    assert "without torchrun" in capsys.readouterr().err
