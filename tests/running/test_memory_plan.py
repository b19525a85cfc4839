"""The memory plan: sizes from headers, what policies need, what is refused before anything loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rapo_lightning.checkpoints.weights import missing_weights, weight_values
from rapo_lightning.cli import main
from rapo_lightning.errors import UserError
from rapo_lightning.models import DiffusersVideoModel
from rapo_lightning.models.activations import answer_bytes, decode_bytes, denoise_bytes
from rapo_lightning.recipe import Recipe
from rapo_lightning.running import memory_check, memory_measured
from rapo_lightning.running.memory_plan import Needs, Part, fitting, plan, told, total
from tests import tiny_models, tiny_pipelines

GB = 10**9


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path / "cache"))


def recipe(wan: Path, **more: Any) -> Recipe:
    call = {"height": 32, "width": 32, "num_frames": 5}
    arguments = {"checkpoint": str(wan), "call": call, **more}
    return Recipe(video_model={"class_path": "rapo_lightning.models.DiffusersVideoModel", "init_args": arguments})


def needs() -> list[Needs]:
    """Sizes as those of Wan2.1-1.3B, a judge and a rewriter of 7B."""
    parts = [Part("text_encoder", 11 * GB, 24), Part("transformer", 3 * GB, 30), Part("vae", GB // 2)]
    phases = {"encode": (None, False), "denoise": (3 * GB, False), "decode": (4 * GB, True)}
    return [
        Needs("video_model", parts, phases, apart=True),
        Needs("language_model", [Part("weights", 15 * GB)], {"rewrite": (GB, False)}),
        Needs("vision_language_model", [Part("weights", 17 * GB)], {"judge": (2 * GB, False)}),
    ]


def test_sizes_are_those_of_the_loaded_weights(wan: Path) -> None:
    (found,) = plan(recipe(wan))
    model = DiffusersVideoModel(str(wan))
    model.load()
    for part in found.parts:
        loaded = getattr(model._pipeline, part.name)
        held = sum(value.numel() for value in loaded.parameters())
        assert part.bytes == held * (4 if part.name == "vae" else 2), part.name
    assert {part.name: part.blocks for part in found.parts} == {"text_encoder": 2, "transformer": 2, "vae": 1}


def test_weights_of_several_files_count_once(tmp_path: Path) -> None:
    for number in range(2):
        save_file({f"w{number}": torch.zeros(3, 5)}, tmp_path / f"model-{number}.safetensors")
    save_file({"w0": torch.zeros(30, 5)}, tmp_path / "model.fp16.safetensors")
    index = {"weight_map": {"w0": "model-0.safetensors", "w1": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_values(tmp_path) == 30
    assert missing_weights(tmp_path) == []
    (tmp_path / "model-1.safetensors").unlink()
    assert weight_values(tmp_path) is None
    assert missing_weights(tmp_path) == ["model-1.safetensors"]


def test_each_policy_needs_less_than_the_one_before() -> None:
    assert [total(needs(), policy) for policy in ("resident", "swap", "offload")] == [int(50.5 * GB), 19 * GB, 19 * GB]
    # Of the video model alone: the text encoder apart; then blocks of what is no VAE.
    video = needs()[:1]
    assert [total(video, policy) for policy in ("resident", "swap", "offload")] == [
        int(18.5 * GB),
        11 * GB,
        int(4.7 * GB),
    ]
    assert [fitting(needs(), size * GB) for size in (80, 24, 16)] == ["resident", "swap", None]


def test_plan_says_what_is_measured_what_is_reckoned_and_what_is_not_here(wan: Path) -> None:
    lines = told(Recipe(), needs())
    assert "decode + 4.0 (measured)" in lines[1]
    assert "denoise + 3.0 (reckoned)" in lines[1]
    assert "encode + ?" in lines[1]
    assert lines[-1].endswith("24 GB: swap, 48 GB: swap, 80 GB: resident")
    absent = recipe(wan)
    absent.video_model["init_args"]["checkpoint"] = "wan2.1-t2v-1.3b"
    assert "wan2.1-t2v-1.3b is not here, " in told(absent, plan(absent))[1]
    assert "told once all are here" in told(absent, plan(absent))[-1]


def test_formulas_give_sizes_of_the_right_order() -> None:
    transformer = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "patch_size": [1, 2, 2]}
    vae = {"base_dim": 96, "dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]}
    call = {"height": 480, "width": 832, "num_frames": 81}
    assert 1 * GB < (denoise_bytes(transformer, vae, call, 1, 2) or 0) < 4 * GB
    assert 2 * GB < (decode_bytes(vae, call, 1, 4) or 0) < 6 * GB
    assert denoise_bytes(transformer, vae, {"height": 480}, 1, 2) is None
    qwen = {"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_size": 3584,
            "intermediate_size": 18944}  # fmt: skip
    # 57,344 bytes a token.
    assert answer_bytes(qwen, 4, 1000, 0) == 4 * 1000 * 57344


def test_what_a_run_needed_is_in_the_next_plan(wan: Path) -> None:
    ran = recipe(wan)
    memory_measured._remember(ran, {"denoise": 5, "decode": 9})
    memory_measured._remember(ran, {"denoise": 7, "decode": 1})
    assert memory_measured.measured_bytes(ran) == {"denoise": 7, "decode": 9}
    assert plan(ran)[0].phases["denoise"] == (7, True)
    assert memory_measured.measured_bytes(recipe(wan, batch_size=2)) == {}
    for damaged in ("[]", "{", '{"key": 1}'):
        memory_measured._file().write_text(damaged)
        assert memory_measured.measured_bytes(ran) == {}
        memory_measured._remember(ran, {"denoise": 3})
        assert memory_measured.measured_bytes(ran) == {"denoise": 3}


@pytest.mark.parametrize(
    ("size", "residency", "message"),
    [
        (40 * GB, "resident", r"Got 46.5 GB of them under `residency: resident` for A with 40.0 GB; `residency: swap` would fit"),
        (10 * GB, "swap", "no policy would fit: take a card of 21 GB, a server for one of the models"),
    ],
)  # fmt: skip
def test_too_little_memory_is_one_sentence_with_what_would_fit(
    size: int, residency: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_check, "cards", lambda _: [("B", 90 * GB, 9), ("A", size, 8)])
    monkeypatch.setattr(memory_check, "plan", lambda *_: needs())
    with pytest.raises(UserError, match=message):
        memory_check.check_device(Recipe(residency=residency))


def test_a_near_fit_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(memory_check, "cards", lambda _: [("A", 52 * GB, 9)])
    monkeypatch.setattr(memory_check, "plan", lambda *_: needs())
    memory_check.check_device(Recipe())
    assert "memory may run out: about 50.5 GB are needed, A has 52.0 GB" in capsys.readouterr().err


def test_a_card_without_bfloat16_is_one_sentence(wan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_check, "cards", lambda _: [("Tesla T4", 16 * GB, 7)])
    with pytest.raises(UserError, match="Got bfloat16 for Tesla T4, which has none; set it to `float16` or `float32`"):
        memory_check.check_device(recipe(wan), ("video_model",))
    memory_check.check_device(recipe(wan, dtype="float16"), ("video_model",))


def test_another_pipelines_folder_and_a_missing_part_are_one_sentence(
    wan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, broken = tmp_path / "other", tmp_path / "broken"
    tiny_pipelines.ALL["CogVideoXPipeline"]()[0].save_pretrained(other)
    shutil.copytree(wan, broken)
    shutil.rmtree(broken / "vae")
    (broken / "transformer/diffusion_pytorch_model.safetensors").unlink()
    said = {
        other: "must hold a WanPipeline. Got .*, which holds a CogVideoXPipeline",
        broken: "without vae/, transformer/weights",
        tmp_path: "model_index.json. Got .*, where it is missing",
    }
    for folder, message in said.items():
        with pytest.raises(UserError, match=message) as caught:
            DiffusersVideoModel(str(folder)).load()
        assert caught.value.exit_code == 2
    assert main(["validate", "lab", f"--video_model.init_args.checkpoint={broken}"]) == 2
    assert "must hold all of its parts" in capsys.readouterr().err
