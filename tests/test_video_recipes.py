"""The recipes for full-size video models, each on a tiny random copy of its architecture: all of its code paths, no weights."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rapo_lightning import Refiner
from rapo_lightning.checkpoints import entries
from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.data.videos import count_frames
from rapo_lightning.models import DiffusersVideoModel
from rapo_lightning.recipe.components import PROTOCOLS, RUNS_COMMANDS, check
from rapo_lightning.recipe.files import load_recipe
from tests import tiny_models, tiny_pipelines
from tests.helpers import ROOT

WAN_CALL = {"height": 32, "width": 32, "num_frames": 5, "max_sequence_length": 64}
ALLOW = ("--allow_package", "tests")
PROGRAM = "open_sora_plan"


def _wan(build: Callable[[Path], Path]) -> Callable[[Path], dict[str, Any]]:
    def made(folder: Path) -> dict[str, Any]:
        build(folder)
        return WAN_CALL

    return made


def _pipeline(name: str) -> Callable[[Path], dict[str, Any]]:
    def made(folder: Path) -> dict[str, Any]:
        pipeline, call = tiny_pipelines.ALL[name]()
        pipeline.save_pretrained(folder)
        return call

    return made


TINY: dict[str, Callable[[Path], dict[str, Any]]] = {
    "wan21_14b": _wan(tiny_models.wan),
    "wan22": _wan(tiny_models.wan22),
    "hunyuanvideo": _pipeline("HunyuanVideoPipeline"),
    "cogvideox": _pipeline("CogVideoXPipeline"),
    "ltx": _pipeline("LTXPipeline"),
    "latte": _pipeline("LattePipeline"),
}
"""What writes the tiny copy of a recipe's video model into a folder, and gives the smallest call; settings stay the recipe's."""
SIZES = ("height", "width", "num_frames", "video_length", "max_sequence_length", "prompt_template")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options that shrink all but the video model."""
    folder = tmp_path_factory.mktemp("models")
    fields = ("language_model", "vision_language_model", "embedder")
    contrast = {"class_path": "tests.test_wan21.Contrast"}
    return {
        **{f"{name}.init_args.checkpoint": str(tiny_models.ALL[name](folder / name)) for name in fields},
        "limit": 2, "stage2.rounds": 2, "stage2.candidates": 2, "stage2.physics_tokens": 4,
        "stage2.sampling.max_new_tokens": 8, "trainer.accelerator": "cpu", "stage3.sampling.max_new_tokens": 8,
        "stage3.epochs": 1, "stage3.pairs": [{"filter": "winner"}], "stage3.lora.r": 4,
        "stage3.max_length": 2048, "evaluation.metric": contrast, "evaluation.limit": 2,
        "stage2.verifiers": [*load_recipe(ROOT / "recipes/wan21.yaml").stage2.verifiers, contrast],
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _from_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path / "cache"))


def options(values: dict[str, Any]) -> list[str]:
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]


def loop(name: str, out: Path, values: dict[str, Any], *more: str) -> list[dict[str, Any]]:
    """Runs a cycle of a recipe (collect, finetune, evaluate), and looks at what came of it."""
    arguments = ["loop", f"recipes/{name}.yaml", "--cycles=1", f"--out={out.parent}", *ALLOW, *options(values), *more]
    assert main(arguments) == 0
    rows = read_rows(out / "trajectories")
    assert sorted(row["round"] for row in rows) == [0, 0, 1, 1]
    assert all((out / row["video"]).is_file() and row["vision_language_model"] for row in rows)
    assert all(row["score_temporal_coherence"] is not None and "score_vlm_alignment" in row for row in rows)
    before = {path: path.stat().st_mtime_ns for path in out.parent.rglob("*.mp4")}
    assert Refiner.from_pretrained(out / "refiner")("a cat on a sofa")
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in out.parent.rglob("*.mp4")} == before
    return rows


@pytest.mark.parametrize("name", TINY)
def test_recipe_runs_end_to_end_on_a_tiny_copy(name: str, tmp_path: Path, others: dict[str, Any]) -> None:
    smallest = TINY[name](tmp_path / "video")
    recipe = load_recipe(ROOT / f"recipes/{name}.yaml")
    given = recipe.video_model["init_args"]["call"]
    call = {**given, "num_inference_steps": 2, **{key: smallest[key] for key in SIZES if key in smallest}}
    values = {**others, "video_model.init_args.checkpoint": str(tmp_path / "video"), "video_model.init_args.call": call}
    # Half a minute on a CPU; `test_diffusers_speed.py` looks at it once.
    values["video_model.init_args.compile"] = False
    out = tmp_path / "run/cycle-1"
    rows = loop(name, out, values)
    frames = smallest.get("num_frames", smallest.get("video_length"))
    assert all(count_frames(out / row["video"]) == frames for row in rows)
    # Another prompt or seed is another video.
    assert len({(out / row["video"]).read_bytes() for row in rows}) >= 2


def test_open_sora_plan_runs_by_its_programs_interface(
    tmp_path: Path, others: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, weights = tmp_path / "program", tmp_path / "weights"
    for file in (
        program / "opensora/sample/sample.py",
        weights / "any93x640x640/config.json",
        weights / "vae/config.json",
    ):
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    binary = tmp_path / "bin/torchrun"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m tests.fake_torchrun "$@"\n')
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binary.parent}{os.pathsep}{os.environ['PATH']}")
    values = {
        **others, "video_model.init_args.checkpoint": str(weights), "video_model.init_args.working_folder": str(program),
    }  # fmt: skip
    path = str(ROOT / f"recipes/{PROGRAM}.yaml")
    assert (
        main(["validate", path, "--allow_command", *options({"video_model.init_args.working_folder": str(program)})])
        == 0
    )
    assert main(["validate", path]) == 2
    assert "needs your permission. Got 'torchrun --standalone" in capsys.readouterr().err.replace('"', "'")
    absent = {**values, "video_model.init_args.working_folder": str(tmp_path / "none")}
    out = tmp_path / "run/cycle-1"
    assert main(["collect", path, f"--out={out}", *ALLOW, "--allow_command", *options(absent)]) == 2
    assert "`working_folder` must be the folder that open-sora-plan-v1.3.0 is run in" in capsys.readouterr().err
    rows = loop(PROGRAM, out, values, "--allow_command")
    assert {row["video_model"] for row in rows} == {"open-sora-plan-v1.3.0"}


@pytest.mark.parametrize("name", [*TINY, PROGRAM, "wan21"])
def test_recipe_has_a_header_and_names_known_checkpoints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / f"recipes/{name}.yaml").read_text()
    header = text[: text.index("\nname:")]
    for field in ("fetch", "run", "hardware", "time", "licence", "GB on disk"):
        assert f"   {field} " in header or field in header, field
    recipe = load_recipe(ROOT / f"recipes/{name}.yaml")
    for model in (recipe.video_model, recipe.language_model, recipe.vision_language_model, recipe.embedder):
        assert model["init_args"]["checkpoint"] in entries()
    # The disk that the header promises is what the manifest adds up to.
    total = sum(
        entries()[model["init_args"]["checkpoint"]].megabytes
        for model in (recipe.video_model, recipe.language_model, recipe.vision_language_model, recipe.embedder)
    )
    assert f"{round(total / 1000)} GB on disk" in header
    if recipe.video_model["class_path"] not in RUNS_COMMANDS:
        assert "video_model" in PROTOCOLS
        _, arguments = check(recipe.video_model, "video_model")
        made = DiffusersVideoModel(**arguments)
        # Their names are checked by the pipeline's call, which no test of a full-size model reaches.
        assert made.batch_size == 1
        assert main(["validate", f"recipes/{name}.yaml"]) == 0
        assert "well-formed" in capsys.readouterr().out


def test_tiles_are_asked_of_the_vae_alone(tmp_path: Path) -> None:
    call = TINY["hunyuanvideo"](tmp_path)
    for tiled in (False, True):
        model = DiffusersVideoModel(str(tmp_path), "HunyuanVideoPipeline", call, dtype="float32", vae_tiling=tiled)
        model.load()
        assert model._pipeline.vae.use_tiling is tiled
        assert model._pipeline.transformer.dtype == torch.float32
