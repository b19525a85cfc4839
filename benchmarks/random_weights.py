"""Checkpoints with random weights in the published layout and geometry, made in seconds where there is a GPU.

Tokenizers are those of the tests' tiny copies: a letter is about a token. What random language models say is in letters, and they say
it to the longest that they may.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    UMT5Config,
    UMT5EncoderModel,
)

from rapo_lightning.checkpoints.verify import MARKER
from rapo_lightning.checkpoints.vision_language import JudgeSettings, build_processor
from tests import tiny_models

QWEN: dict[str, dict[str, int]] = {
    "tiny": {},
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152064},
    "32b": {"hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 40,
            "num_key_value_heads": 8, "vocab_size": 152064},
    "72b": {"hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80, "num_attention_heads": 64,
            "num_key_value_heads": 8, "vocab_size": 152064},
}  # fmt: skip
"""What the `config.json` of Qwen2.5-*-Instruct says."""
_VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584, "patch_size": 14,
           "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2}  # fmt: skip
_PIXELS = {"shortest_edge": 3136, "longest_edge": 12845056}
"""What those of Qwen2.5-VL-7B-Instruct say of its vision tower and of the pixels of a picture."""
_UMT5_VOCABULARY = 256384
_SHARD = 2_000_000_000
"""Values of a file, 4 GB."""
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _shards(shapes: dict[str, torch.Size]) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        if names and size + shape.numel() > _SHARD:
            yield names
            names, size = [], 0
        names.append(name)
        size += shape.numel()
    yield names


def _random(name: str, shape: torch.Size) -> Tensor:
    if len(shape) == 1:
        return torch.full(shape, float("norm" in name), dtype=torch.bfloat16)
    return torch.empty(shape, dtype=torch.bfloat16, device=_DEVICE).normal_(0, 0.02)


def _mark(folder: Path) -> None:
    """Records checksums, made up, so that many gigabytes are not read for those of random numbers."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    (folder / MARKER).write_text(json.dumps({name: f"random {name}" for name in names}))


def _write(folder: Path, kind: type[nn.Module], config: object) -> None:
    """Replaces the weights of a folder by random ones in bfloat16, file by file, so that they need not fit anywhere whole."""
    (folder / "model.safetensors").unlink()
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in kind(config).state_dict().items()}
    torch.manual_seed(0)
    # Of the published vocabulary the tiny tokenizer has no more; without its control tokens no answer ends early.
    index, known = {}, AutoTokenizer.from_pretrained(folder).vocab_size
    for number, names in enumerate(_shards(shapes)):
        file = f"model-{number:05d}.safetensors"
        values = {name: _random(name, shapes[name]) for name in names}
        if "lm_head.weight" in values:
            values["lm_head.weight"][known:] = 0
        save_file(values, folder / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(names, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def qwen_vl(folder: Path, tiny: bool) -> Path:
    """Qwen2.5-VL-7B-Instruct in bfloat16, with the published sizes of pictures.

    Args:
        folder: Where it goes; one that is whole stays as it is.
        tiny: Whether a copy of some megabytes will do.
    """
    if (folder / MARKER).is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.with_name(folder.name + ".work")
    shutil.rmtree(work, ignore_errors=True)
    tiny_models.qwen_vl(work).rename(folder)
    shutil.rmtree(work)
    if not tiny:
        config = Qwen2_5_VLConfig.from_pretrained(folder)
        layers = QWEN["7b"]["num_hidden_layers"]
        config.text_config.update({**QWEN["7b"], "layer_types": ["full_attention"] * layers, "max_position_embeddings": 128000,
                                   "tie_word_embeddings": False, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6,
                                                                                     "mrope_section": [16, 24, 24]}})  # fmt: skip
        config.vision_config.update(_VISION)
        config.tie_word_embeddings = False
        config.save_pretrained(folder)
        processor = build_processor(AutoTokenizer.from_pretrained(folder), JudgeSettings(patch=_VISION["patch_size"]))
        processor.image_processor.size = processor.video_processor.size = _PIXELS
        processor.save_pretrained(folder)
        _write(folder, Qwen2_5_VLForConditionalGeneration, config)
    _mark(folder)
    return folder


def qwen(folder: Path, size: str) -> Path:
    """Qwen2.5-*-Instruct in bfloat16, file by file, so that it need not fit anywhere whole.

    Args:
        folder: Where it goes; one that is whole stays as it is.
        size: Of `QWEN`.
    """
    if (folder / MARKER).is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    tiny_models.qwen(folder)
    if QWEN[size]:
        config = Qwen2Config.from_pretrained(folder)
        config.update({**QWEN[size], "layer_types": ["full_attention"] * QWEN[size]["num_hidden_layers"]})
        config.save_pretrained(folder)
        _write(folder, Qwen2ForCausalLM, config)
    _mark(folder)
    return folder


def wan(folder: Path, tiny: bool, text_layers: int = 2) -> Path:
    """Wan2.1-T2V-1.3B-Diffusers, 14.8 GB with its whole text encoder.

    Args:
        folder: Where it goes; one that is whole stays as it is.
        tiny: Whether a copy of some kilobytes will do.
        text_layers: Layers of the text encoder, which has 24: a prompt is read once.
    """
    if (folder / MARKER).is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    tiny_models.wan(folder)
    if not tiny:
        with torch.device(_DEVICE):
            parts = {
                "transformer": WanTransformer3DModel(
                    patch_size=(1, 2, 2), num_attention_heads=12, attention_head_dim=128, in_channels=16, out_channels=16,
                    text_dim=4096, freq_dim=256, ffn_dim=8960, num_layers=30, cross_attn_norm=True,
                    qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=1024,
                ).to(torch.bfloat16),
                "vae": AutoencoderKLWan(),
                "text_encoder": UMT5EncoderModel(
                    UMT5Config(vocab_size=_UMT5_VOCABULARY, d_model=4096, d_kv=64, d_ff=10240, num_layers=text_layers, num_heads=64,
                               feed_forward_proj="gated-gelu", is_gated_act=True)
                ).to(torch.bfloat16),
            }  # fmt: skip
        for name, part in parts.items():
            shutil.rmtree(folder / name)
            part.save_pretrained(folder / name)
    _mark(folder)
    return folder
