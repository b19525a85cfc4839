"""Plans of the Wan recipes from the published geometry: files that are headers without values, 0 bytes of weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    UMT5Config,
    UMT5EncoderModel,
)

from benchmarks import random_weights
from rapo_lightning.recipe import Recipe
from rapo_lightning.recipe.files import load_recipe
from rapo_lightning.running.memory_plan import CARDS, POLICIES, Needs, fitting, plan, total
from tests.helpers import ROOT

COMMON = {"patch_size": (1, 2, 2), "attention_head_dim": 128, "in_channels": 16, "out_channels": 16, "text_dim": 4096,
          "freq_dim": 256, "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}  # fmt: skip
SMALL = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
LARGE = {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}


def headers_only(model: nn.Module, config: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True)
    header = {
        name: {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [0, 0]}
        for name, value in model.named_parameters()
    }
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    (folder / "config.json").write_text(json.dumps(config, default=str))


def published(folder: Path, name: str) -> Recipe:
    """A recipe whose checkpoints are headers in the published geometry."""
    shape = SMALL if name == "wan21" else LARGE
    text = UMT5Config(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
                      feed_forward_proj="gated-gelu", is_gated_act=True)  # fmt: skip
    qwen, vl = Qwen2Config(**random_weights.QWEN["7b"]), Qwen2_5_VLConfig()
    vl.text_config.update(random_weights.QWEN["7b"])
    vl.text_config.layer_types = ["full_attention"] * 28
    vl.vision_config.update(random_weights._VISION)
    video = folder / "video"
    with torch.device("meta"):
        transformer, vae = WanTransformer3DModel(**COMMON, **shape), AutoencoderKLWan()
        parts = {"text_encoder": (UMT5EncoderModel(text), text.to_dict()), "transformer": (transformer, dict(transformer.config)),
                 "vae": (vae, dict(vae.config))}  # fmt: skip
        if name == "wan22":
            parts["transformer_2"] = parts["transformer"]
        for part, (model, config) in parts.items():
            headers_only(model, config, video / part)
        headers_only(Qwen2ForCausalLM(qwen), qwen.to_dict(), folder / "llm")
        headers_only(Qwen2_5_VLForConditionalGeneration(vl), vl.to_dict(), folder / "vlm")
    index = {"_class_name": "WanPipeline", **{part: ["diffusers", "Any"] for part in parts}}
    (video / "model_index.json").write_text(json.dumps(index))
    recipe = load_recipe(ROOT / f"recipes/{name}.yaml")
    for role, place in (
        ("video_model", video),
        ("language_model", folder / "llm"),
        ("vision_language_model", folder / "vlm"),
    ):
        getattr(recipe, role)["init_args"]["checkpoint"] = str(place)
    return recipe


EXPECTED: dict[str, tuple[list[float], list[str | None]]] = {
    "wan21": ([50.2, 18.8, 18.8], ["swap", "swap", "resident"]),
    "wan21_14b": ([85.7, 42.6, 21.0], ["offload", "swap", "swap"]),
    "wan22": ([114.3, 71.1, 21.0], ["offload", "offload", "swap"]),
}
"""Gigabytes by policy, and the first one that fits cards of 24, 48 and 80 GB: what docs/hardware.md says."""


@pytest.mark.parametrize("name", EXPECTED)
def test_plan_of_the_published_geometry_is_what_the_docs_say(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path / "cache"))
    needs = plan(published(tmp_path, name), ("video_model", "language_model", "vision_language_model"))
    assert found(f"`{name}`", needs) == (*EXPECTED[name], True)


def found(head: str, needs: list[Needs]) -> tuple[list[float], list[str | None], bool]:
    """Gigabytes by policy, the first policy that fits each card, and whether docs/hardware.md has a row that says so."""
    sizes = [round(total(needs, policy) / 1e9, 1) for policy in POLICIES]
    policies = [fitting(needs, card * 1e9) for card in CARDS]
    cells = [*(f"{size} GB" for size in sizes), *(f"`{policy}`" if policy else "none" for policy in policies)]
    return sizes, policies, f"| {head} | {' | '.join(cells)} |" in (ROOT / "docs/hardware.md").read_text()


QUANTIZED: dict[tuple[str, str], tuple[list[float], list[str | None]]] = {
    ("wan21", "int8"): ([36.5, 11.6, 11.6], [None, "resident", "resident"]),
    ("wan21", "nf4"): ([29.9, 11.4, 8.1], ["swap", "resident", "resident"]),
    ("wan21_14b", "nf4"): ([65.4, 42.6, 15.4], ["offload", "swap", "resident"]),
    ("wan22", "nf4"): ([93.9, 71.1, 16.8], ["offload", "offload", "swap"]),
}
"""The same with language model and judge in 8 or 4 bits."""


@pytest.mark.parametrize(("name", "kind"), QUANTIZED)
def test_plan_with_quantized_models_is_what_the_docs_say(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path / "cache"))
    recipe = published(tmp_path, name)
    for model in (recipe.language_model, recipe.vision_language_model):
        model["init_args"]["quantization"] = kind
    needs = plan(recipe, ("video_model", "language_model", "vision_language_model"))
    assert found(f"`{name}`, `{kind}`", needs) == (*QUANTIZED[name, kind], True)
