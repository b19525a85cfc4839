"""The arithmetic of Wan's transformer, by formula and as PyTorch counts it, and the rate at which a device multiplies matrices."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch.utils.flop_counter import FlopCounterMode


def latent_size(call: dict[str, Any]) -> tuple[int, int, int]:
    """Frames, height and width of the latents of a video: Wan's VAE takes 4 frames and 8 x 8 pixels for one."""
    return (call["num_frames"] - 1) // 4 + 1, call["height"] // 8, call["width"] // 8


def by_formula(config: Any, call: dict[str, Any], text_tokens: int = 512) -> int:
    """Operations of one pass, a multiplication and an addition being two; normalizations and activations are left out.

    Args:
        config: The transformer's configuration.
        call: Size of the video.
        text_tokens: Length of the prompt's encoding.
    """
    frames, height, width = latent_size(call)
    time_patch, patch, _ = config.patch_size
    n, t = frames // time_patch * (height // patch) * (width // patch), text_tokens
    d, f = config.num_attention_heads * config.attention_head_dim, config.ffn_dim
    pixels = time_patch * patch * patch
    attention = 8 * n * d * d + 4 * n * n * d
    across = 4 * n * d * d + 4 * t * d * d + 4 * n * t * d
    block = attention + across + 4 * n * d * f
    around = 2 * n * d * pixels * (config.in_channels + config.out_channels) + 2 * t * d * (config.text_dim + d)
    of_time = 2 * d * (config.freq_dim + d) + 12 * d * d
    return int(config.num_layers * block + around + of_time)


def by_counter(folder: Path, call: dict[str, Any], text_tokens: int = 512) -> int:
    """Operations of one pass as `FlopCounterMode` counts them, without any weights.

    Args:
        folder: The transformer's folder.
        call: Size of the video.
        text_tokens: Length of the prompt's encoding.
    """
    config = WanTransformer3DModel.load_config(folder)
    with torch.device("meta"):
        model = WanTransformer3DModel.from_config(config).to(torch.bfloat16)
        latents = torch.empty(1, model.config.in_channels, *latent_size(call), dtype=torch.bfloat16)
        text = torch.empty(1, text_tokens, model.config.text_dim, dtype=torch.bfloat16)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(hidden_states=latents, timestep=torch.zeros(1), encoder_hidden_states=text)
    return int(counter.get_total_flops())


def matrix_rate(side: int, seconds: float = 3.0) -> float:
    """Operations a second of products of square bfloat16 matrices, kept up as long as said, as a video takes long too.

    Args:
        side: Rows and columns.
        seconds: How long.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def run(count: int) -> float:
        begin = time.monotonic()
        for _ in range(count):
            torch.mm(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.monotonic() - begin

    run(3)
    count = max(3, int(seconds / (run(3) / 3)))
    return 2 * side**3 * count / run(count)
