"""LoRAs of a video model: added to its weights, counted by their contents, refused before anything large is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import WanPipeline
from safetensors.torch import load_file, save_file

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.models import DiffusersVideoModel, ModelPool
from rapo_lightning.models.diffusers_lora import VideoLora, add_lora
from rapo_lightning.recipe import Recipe
from rapo_lightning.recipe.identity import component_identity
from rapo_lightning.running.pool import fetch_models
from tests import tiny_loras, tiny_models, tiny_pipelines
from tests.helpers import tiny_recipe
from tests.tiny_loras import CALL, FILE, model


def video(made: DiffusersVideoModel) -> np.ndarray:
    return made.generate(["a red ball"], [1])[0]


def test_videos_are_those_of_weights_with_the_lora_added(wan: Path, student: Path) -> None:
    plain, made = model(wan), model(wan, student)
    assert np.abs(video(made).astype(int) - video(plain)).max() > 8
    np.testing.assert_array_equal(video(model(wan, student, scale=0)), video(plain))
    matrices = load_file(student / FILE)
    layer = "blocks.1.attn2.to_k"
    added = matrices[f"transformer.{layer}.lora_B.weight"] @ matrices[f"transformer.{layer}.lora_A.weight"]
    found = made._pipeline.transformer.get_submodule(layer)
    assert type(found) is torch.nn.Linear
    torch.testing.assert_close(found.weight, plain._pipeline.transformer.get_submodule(layer).weight + added)


@pytest.mark.parametrize("policy", ["swap", "offload"])
def test_residency_compilation_and_caches_find_plain_layers(policy: Any, wan: Path, student: Path) -> None:
    made = model(wan, student)
    made.residency = policy
    made.to(torch.device("cpu"))
    np.testing.assert_array_equal(video(made), video(model(wan, student)))
    whole = model(wan)
    whole.load()
    names = [name for name, _ in whole._pipeline.transformer.named_parameters()]
    assert [name for name, _ in made._pipeline.transformer.named_parameters()] == names
    # Frozen weights would be computed with by other kernels.
    assert all(value.requires_grad for value in made._pipeline.transformer.parameters())


@pytest.mark.parametrize("name", ["CogVideoXPipeline", "LTXPipeline", "MochiPipeline", "HunyuanVideoPipeline"])
def test_other_pipelines_take_one(name: str, tmp_path: Path) -> None:
    pipeline, call = tiny_pipelines.ALL[name]()
    pipeline.save_pretrained(tmp_path / "pipeline")
    tiny_loras.attention_lora(pipeline, tmp_path / "lora", "few.safetensors")

    def made(**more: Any) -> np.ndarray:
        lora = {"checkpoint": str(tmp_path / "lora"), "weight_name": "few.safetensors", **more} if more else None
        return video(DiffusersVideoModel(str(tmp_path / "pipeline"), name, call, dtype="float32", lora=lora))

    plain = made()
    assert np.abs(made(scale=1.0).astype(int) - plain).max() > 1
    np.testing.assert_array_equal(made(scale=0.0), plain)


def test_half_of_a_lora_in_bfloat16_stays_in_bfloat16(wan: Path, student: Path) -> None:
    lora = {"checkpoint": str(student), "weight_name": FILE, "scale": 0.5}
    made = DiffusersVideoModel(str(wan), call=CALL, lora=lora)
    assert video(made).shape == (5, 32, 32, 3)
    assert made._pipeline.transformer.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16


def test_both_transformers_have_their_own_file(tmp_path: Path) -> None:
    wan22 = tiny_models.wan22(tmp_path / "wan22")
    low = tiny_loras.wan_lora(tmp_path / "low", "low.safetensors", seed=2)
    tiny_loras.wan_lora(low, "high.safetensors", seed=3)
    pipeline, before = (WanPipeline.from_pretrained(wan22) for _ in range(2))
    add_lora(VideoLora(str(low), "high.safetensors", "low.safetensors", 0.5), pipeline)
    for part, name in (("transformer", "high"), ("transformer_2", "low")):
        matrices = load_file(low / f"{name}.safetensors")
        layer = "blocks.0.attn1.to_q"
        added = matrices[f"transformer.{layer}.lora_B.weight"] @ matrices[f"transformer.{layer}.lora_A.weight"]
        weight = getattr(before, part).get_submodule(layer).weight
        torch.testing.assert_close(getattr(pipeline, part).get_submodule(layer).weight, weight + 0.5 * added)
    fields = {"checkpoint": str(low), "weight_name": "high.safetensors", "weight_name_2": "low.safetensors"}
    made = DiffusersVideoModel(str(wan22), call=CALL, dtype="float32", lora=fields)
    assert video(made).shape == (5, 32, 32, 3)


def test_what_is_used_of_it_is_part_of_the_identity(wan: Path, student: Path, tmp_path: Path) -> None:
    def identity(folder: Path, **fields: Any) -> Any:
        lora = {"checkpoint": str(folder), "weight_name": FILE, **fields}
        return component_identity({"class_path": "x", "init_args": {"checkpoint": str(wan), "lora": lora}})

    first = identity(student)
    moved = shutil.copytree(student, tmp_path / "moved")
    save_file({"other": torch.zeros(2)}, moved / "other.safetensors")
    assert identity(moved) == first
    assert identity(student, scale=0.5) != first
    assert (
        first["init_args"]["checkpoint"]
        == component_identity({"class_path": "x", "init_args": {"checkpoint": str(wan)}})["init_args"]["checkpoint"]
    )
    weights = load_file(moved / FILE)
    save_file({name: value + 1 for name, value in weights.items()}, moved / FILE)
    assert identity(moved) != first
    # Another way to write the path is the same file.
    assert (
        identity(moved, weight_name=f"./{FILE}")["init_args"]["lora"]["checkpoint"]
        == (identity(moved)["init_args"]["lora"]["checkpoint"])
    )


def test_names_of_wans_own_code_are_read(wan: Path, student: Path, tmp_path: Path) -> None:
    """As LightX2V's and CausVid's files have them."""
    names = {"attn1": "self_attn", "attn2": "cross_attn", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o",
             "lora_A": "lora_down", "lora_B": "lora_up", "transformer.": "diffusion_model."}  # fmt: skip

    def renamed(old: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = {}
        for name, value in old.items():
            for ours, theirs in names.items():
                name = name.replace(ours, theirs)
            if ".attn" in name or "_attn" in name:
                found[name] = value
        return found

    original = model(wan, tiny_loras.changed_lora(student, tmp_path / "original", FILE, renamed))
    only_attention = lambda old: {name: value for name, value in old.items() if ".attn" in name}  # noqa: E731
    ours = model(wan, tiny_loras.changed_lora(student, tmp_path / "ours", FILE, only_attention))
    np.testing.assert_array_equal(video(original), video(ours))


def test_a_file_of_the_hub_is_there_before_rows_are_keyed(
    wan: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def download(repo: str, name: str) -> str:
        asked.append((repo, name))
        return str(student / FILE)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    lora = {"checkpoint": "someone/students", "weight_name": FILE}
    path = "rapo_lightning.models.DiffusersVideoModel"
    fetch_models(
        Recipe(video_model={"class_path": path, "init_args": {"checkpoint": str(wan), "lora": lora}}), ("video_model",)
    )
    assert asked == [("someone/students", FILE)]
    made = DiffusersVideoModel(str(wan), call=CALL, dtype="float32", lora=lora)
    np.testing.assert_array_equal(video(made), video(model(wan, student)))


def test_a_draft_has_the_lora_too(wan: Path, student: Path) -> None:
    draft = ModelPool(model(wan, student), device=torch.device("cpu")).draft({"num_inference_steps": 1})
    assert draft.shortcuts == f"lora checkpoint={student}, weight_name={FILE}; draft num_inference_steps=1"


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_rows_say_so_and_a_killed_run_goes_on(
    wan: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"checkpoint": str(wan), "call": CALL, "dtype": "float32", "fps": 8.0,
              "lora": {"checkpoint": str(student), "weight_name": FILE}}  # fmt: skip
    recipe = tiny_recipe(
        tmp_path, tiny_models.qwen(_folder(tmp_path / "llm")), video_model__init_args=fields, limit=2, stage2__rounds=2,
        stage2__verifiers=[{"class_path": "tests.test_wan21.Contrast"}],
    )  # fmt: skip
    command = ["collect", str(recipe), "--allow_package", "tests", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*command, str(whole)]) == 0
    generate, calls = DiffusersVideoModel.generate_by, [0]

    def dies_once(self: Any, *given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return generate(self, *given)

    monkeypatch.setattr(DiffusersVideoModel, "generate_by", dies_once)
    assert main([*command, str(killed)]) != 0
    assert main([*command, str(killed)]) == 0
    assert calls == [5]
    rows = [read_rows(folder / "trajectories") for folder in (whole, killed)]
    texts = [sorted((row["prompt_id"], row["round"], row["prompt"], row["shortcuts"]) for row in run) for run in rows]
    assert texts[0] == texts[1]
    assert {row["shortcuts"] for row in rows[0]} == {f"lora checkpoint={student}, weight_name={FILE}"}
    # With half of it no video is the same.
    fields["lora"] = {"checkpoint": str(student), "weight_name": FILE, "scale": 0.5}
    loaded = yaml.safe_load(recipe.read_text())
    loaded["video_model"]["init_args"] = fields
    recipe.write_text(yaml.safe_dump(loaded))
    assert main([*command, str(killed)]) == 0
    assert calls == [9]


def test_only_a_loras_file_stands_for_its_checkpoint(student: Path) -> None:
    own = {"class_path": "my.Judge", "init_args": {"checkpoint": str(student), "weight_name": "model"}}
    before = component_identity(own)["init_args"]["checkpoint"]
    (student / "config.json").write_text("{}")
    assert component_identity(own)["init_args"]["checkpoint"] != before
    (student / "config.json").unlink()
