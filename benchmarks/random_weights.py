"""Checkpoints with random weights in the published layout and geometry, made in seconds where there is a GPU.

Tokenizers are those of the tests' tiny copies: a letter is about a token.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM, UMT5Config, UMT5EncoderModel

from rapo_lightning.checkpoints.verify import MARKER
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
        (folder / "model.safetensors").unlink()
        with torch.device("meta"):
            shapes = {name: value.shape for name, value in Qwen2ForCausalLM(config).state_dict().items()}
        torch.manual_seed(0)
        index = {}
        for number, names in enumerate(_shards(shapes)):
            file = f"model-{number:05d}.safetensors"
            values = {name: _random(name, shapes[name]) for name in names}
            save_file(values, folder / file, metadata={"format": "pt"})
            index.update(dict.fromkeys(names, file))
        text = json.dumps({"metadata": {}, "weight_map": index})
        (folder / "model.safetensors.index.json").write_text(text)
    _mark(folder)
    return folder


def wan(folder: Path, tiny: bool) -> Path:
    """Wan2.1-T2V-1.3B-Diffusers; its text encoder has 2 layers of 24, as it reads a prompt once.

    Args:
        folder: Where it goes; one that is whole stays as it is.
        tiny: Whether a copy of some kilobytes will do.
    """
    if (folder / MARKER).is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    tiny_models.wan(folder)
    if not tiny:
        vocabulary = UMT5Config.from_pretrained(folder / "text_encoder").vocab_size
        with torch.device(_DEVICE):
            parts = {
                "transformer": WanTransformer3DModel(
                    patch_size=(1, 2, 2), num_attention_heads=12, attention_head_dim=128, in_channels=16, out_channels=16,
                    text_dim=4096, freq_dim=256, ffn_dim=8960, num_layers=30, cross_attn_norm=True,
                    qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=1024,
                ).to(torch.bfloat16),
                "vae": AutoencoderKLWan(),
                "text_encoder": UMT5EncoderModel(
                    UMT5Config(vocab_size=vocabulary, d_model=4096, d_kv=64, d_ff=10240, num_layers=2, num_heads=64,
                               feed_forward_proj="gated-gelu", is_gated_act=True)
                ).to(torch.bfloat16),
            }  # fmt: skip
        for name, part in parts.items():
            shutil.rmtree(folder / name)
            part.save_pretrained(folder / name)
    _mark(folder)
    return folder
