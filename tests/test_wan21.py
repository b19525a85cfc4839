"""The recipe for Wan2.1 with tiny random copies of its models: all of its code paths, none of its weights."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rapo_lightning import Refiner
from rapo_lightning.checkpoints import entries
from rapo_lightning.cli import main
from rapo_lightning.data.ids import derived_seed
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.models import ModelPool, TransformersLanguageModel
from rapo_lightning.models.refiner import refiner_messages
from rapo_lightning.models.refiner_folder import read_refiner
from rapo_lightning.prompting.chat import Sampling
from rapo_lightning.recipe import Recipe
from rapo_lightning.recipe.files import load_recipe
from rapo_lightning.running.pool import open_refiner
from rapo_lightning.verifiers import Judgement, View
from tests import tiny_models
from tests.helpers import ROOT

RECIPE = ROOT / "recipes/wan21.yaml"


class Contrast:
    """Scores a video by its contrast, which random models change from prompt to prompt."""

    name = "contrast"

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        return [Judgement(float(view.frames.std()) / 128) for view in views]


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that put the tiny models in the place of the published ones and shrink the call."""
    folder = tmp_path_factory.mktemp("models")
    values: dict[str, Any] = {
        f"{field}.init_args.checkpoint": str(build(folder / field)) for field, build in tiny_models.ALL.items()
    }
    call = load_recipe(RECIPE).video_model["init_args"]["call"]
    values["video_model.init_args.call"] = {
        **call, "height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2, "max_sequence_length": 64,
    }  # fmt: skip
    values |= {
        "video_model.init_args.fps": 8.0, "video_model.init_args.compile": False, "limit": 4, "stage2.rounds": 3, "stage2.candidates": 2, "stage2.physics_tokens": 4,
        "stage2.sampling.max_new_tokens": 8, "stage3.sampling.max_new_tokens": 8, "stage3.epochs": 2,
        "stage3.pairs": [{"filter": "winner"}, {"filter": "margin", "least": -1.0}], "stage3.lora.r": 4, "stage3.max_length": 2048, "trainer.accelerator": "cpu",
    }  # fmt: skip
    contrast = {"class_path": "tests.test_wan21.Contrast"}
    # A random judge has no score, so nothing would pass a floor of its, and no evaluation by it has a mean.
    values["stage2.verifiers"] = [*load_recipe(RECIPE).stage2.verifiers, contrast]
    values |= {"evaluation.metric": contrast, "evaluation.limit": 3}
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return ["--allow_package=tests", *(f"--{key}={value}" for key, value in values.items())]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, overrides: list[str]) -> Path:
    """The first cycle of a loop of two: whatever the first one gains, the second is run."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("RAPO_CACHE", str(folder / "cache"))
        assert main(["loop", str(RECIPE), "--cycles=2", "--stop=false", f"--out={folder}", *overrides]) == 0
    return folder / "cycle-1"


@pytest.fixture(autouse=True)
def _from_the_checkout(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("RAPO_CACHE", str(run / "cache"))


def test_loop_goes_its_rounds(run: Path) -> None:
    rows = read_rows(run / "trajectories")
    assert sorted(row["round"] for row in rows) == [0] * 4 + [1] * 4 + [2] * 4
    assert all(row["score_temporal_coherence"] is not None and row["flow"] for row in rows)
    assert all((run / row["video"]).is_file() for row in rows)
    # The physics check ran where a prompt has a law, and its answer is in the row.
    assert any(row["physics"] for row in rows if row["phys_law"] and row["round"] == 0)


def test_judge_looked_at_every_video(run: Path) -> None:
    rows = read_rows(run / "trajectories")
    assert all(row["vision_language_model"] and "score_vlm_alignment" in row and row["critique"] for row in rows)


def test_second_cycle_starts_from_the_first_ones_refiner(run: Path) -> None:
    loop = json.loads((run.parent / "loop.json").read_text())
    assert [cycle["over"] for cycle in loop["cycles"]] == ["raw", "cycle-1"]
    starts = {
        row["source_prompt"]: row["prompt"]
        for row in read_rows(run.parent / "cycle-2/trajectories")
        if not row["round"]
    }
    answers = Refiner.from_pretrained(run / "refiner").answers(list(starts))
    assert [answer or starts[text] for text, answer in zip(starts, answers, strict=True)] == list(starts.values())
    assert "24 rounds" in (run.parent / "cycle-2/refiner/README.md").read_text()
    assert Refiner.from_pretrained(run.parent / "refiner")("a cat on a sofa")


def test_running_again_does_nothing_new(run: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (run / "trajectories").iterdir()}
    adapter = (run / "refiner/adapter_model.safetensors").read_bytes()
    for command in ("collect", "finetune"):
        # A cycle is a run as any other.
        assert main([command, str(RECIPE), f"--out={run}", *overrides]) == 0
    assert "4 prompts, 4 already complete" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (run / "trajectories").iterdir()} == before
    assert (run / "refiner/adapter_model.safetensors").read_bytes() == adapter


def test_refiner_plugs_back_in(run: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert Refiner.from_pretrained(run / "refiner")("a cat on a sofa")
    assert main(["refine", str(RECIPE), "a cat on a sofa", f"--out={run}", *overrides]) == 0
    assert capsys.readouterr().out.strip()


def test_recipe_is_well_formed_and_names_known_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(RECIPE)]) == 0
    assert "well-formed" in capsys.readouterr().out
    recipe = load_recipe(RECIPE)
    for model in (recipe.video_model, recipe.language_model, recipe.vision_language_model, recipe.embedder):
        assert model["init_args"]["checkpoint"] in entries()


def test_no_prompt_is_on_both_sides() -> None:
    sides = []
    for name in ("prompts", "prompts_heldout"):
        with (ROOT / f"recipes/wan21/{name}.csv").open(newline="") as file:
            sides.append([row["prompt"] for row in csv.DictReader(file)])
    assert [len(side) for side in sides] == [40, 20]
    assert len(set(sides[0]) | set(sides[1])) == 60


def test_published_adapter_format_changes_what_its_base_says(tmp_path: Path) -> None:
    base = tiny_models.llama(tmp_path / "llama")
    adapter = tiny_models.llama_rewriter(base, tmp_path / "llama3_1_instruct_lora_rewrite")
    asked = [[{"role": "system", "content": "You refine captions."}, {"role": "user", "content": "a ball"}]]
    answers = [
        TransformersLanguageModel(str(base), adapter=folder).complete(asked, [1], Sampling(max_new_tokens=12))
        for folder in ("", str(adapter))
    ]
    assert answers[0] != answers[1]


def test_a_published_rewriter_plugs_into_stage_1_by_reference(tmp_path: Path) -> None:
    base = tiny_models.llama(tmp_path / "llama")
    adapter = tiny_models.llama_rewriter(base, tmp_path / "llama3_1_instruct_lora_rewrite")
    shipped = yaml.safe_load((ROOT / "recipes/wan21/rewriter/refiner.yaml").read_text())
    assert {shipped["base_model"], shipped["adapter"]} <= set(entries())
    folder = tmp_path / "rewriter"
    folder.mkdir()
    tiny = {**shipped, "base_model": str(base), "adapter": str(adapter), "sampling": {"max_new_tokens": 12}}
    (folder / "refiner.yaml").write_text(yaml.safe_dump(tiny))
    models = ModelPool(device=torch.device("cpu"))
    recipe = Recipe(language_model={"class_path": "x.Y", "init_args": {"checkpoint": "another"}})
    rewriter = open_refiner(folder, recipe, models, own_base=True)
    alone = TransformersLanguageModel(str(base), adapter=str(adapter))
    turns = refiner_messages("a ball", shipped["system"])
    expected = alone.complete([turns], [derived_seed(0, "a ball")], rewriter.settings.sampling)[0][0]
    assert rewriter.answers(["a ball"]) == [" ".join(expected.split())]
    assert rewriter.identity() != read_refiner(ROOT / "recipes/wan21/rewriter").identity()
