"""What phases need on the device beside weights, reckoned from configurations. All formulas are ours and rough.

They are for a plan before the first run; what a run then needed is measured (`running.memory_measured`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]
_TEXT_TOKENS = 600
"""Tokens of an instruction with its history."""
_FRAME_TOKENS_SIDE = 28
"""Pixels along a side of what Qwen2.5-VL makes one token of, two frames together."""


def _video_size(call: Config) -> tuple[int, int, int] | None:
    frames = call.get("num_frames", call.get("video_length"))
    found = frames, call.get("height"), call.get("width")
    return None if any(not isinstance(value, int) for value in found) else found  # type: ignore[return-value]


def _compression(vae: Config) -> tuple[int, int]:
    """Frames and pixels along a side that a VAE makes one of."""
    scaling = vae.get("spatio_temporal_scaling")
    if scaling:
        steps: int = 2 ** sum(scaling)
        return steps * vae.get("patch_size_t", 1), steps * vae.get("patch_size", 1)
    levels = len(vae.get("dim_mult") or vae.get("block_out_channels") or [1])
    space = vae.get("scale_factor_spatial") or vae.get("spatial_compression_ratio") or 2 ** (levels - 1)
    time = vae.get("scale_factor_temporal") or vae.get("temporal_compression_ratio")
    return time or 2 ** sum(vae.get("temperal_downsample") or []), space


def denoise_bytes(transformer: Config, vae: Config, call: Config, batch: int, width: int) -> int | None:
    """Bytes of a block at work, the most that steps need at once; None where the configuration does not say.

    Input, its normalized copy in float32, query, key and value, two of them rotated, attention's output and projection: twelve
    times the width of the model; and the feed-forward layer's, twice its own.

    Args:
        transformer: Its configuration.
        vae: The VAE's.
        call: Size of the video.
        batch: Videos of a call.
        width: Bytes of a value.
    """
    size, heads = _video_size(call), transformer.get("num_attention_heads")
    if size is None or not heads:
        return None
    time, space = _compression(vae)
    patch = transformer.get("patch_size", 1)
    time_patch = transformer.get("patch_size_t") or 1
    if isinstance(patch, list | tuple):
        time_patch, patch = patch[0], patch[1]
    frames = (size[0] - 1) // time + 1
    tokens = -(-frames // time_patch) * (size[1] // space // patch) * (size[2] // space // patch)
    model = heads * transformer.get("attention_head_dim", 0)
    forward = transformer.get("ffn_dim") or 4 * model
    return int(batch * tokens * (12 * model + 2 * forward) * width)


def decode_bytes(vae: Config, call: Config, batch: int, width: int) -> int | None:
    """Bytes of the VAE's last and widest layer, four maps of it at once, and of the video in floats and in bytes.

    Wan's VAE decodes the frames of one latent at a time, others all frames.

    Args:
        vae: Its configuration.
        call: Size of the video.
        batch: Videos of a call.
        width: Bytes of a value.
    """
    size = _video_size(call)
    if size is None:
        return None
    frames, height, width_pixels = size
    channels = (
        vae.get("base_dim") or (vae.get("decoder_block_out_channels") or vae.get("block_out_channels") or [128])[0]
    )
    at_once = min(frames, _compression(vae)[0]) if "base_dim" in vae else frames
    pixels = batch * height * width_pixels
    return int(pixels * at_once * channels * 4 * width + pixels * frames * 3 * (2 * width + 5))


def answer_bytes(config: Config, rows: int, tokens: int, read: int) -> int | None:
    """Bytes of a language model's keys and values, and of the layer that reads the conversations.

    Args:
        config: Its configuration, or the text half's.
        rows: Answers at once.
        tokens: Tokens of each with its conversation.
        read: Conversations that are read together.
    """
    text = config.get("text_config") or config
    layers, heads, model = (text.get(key) for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    if not (layers and heads and model):
        return None
    head = text.get("head_dim") or model // heads
    kept = layers * 2 * (text.get("num_key_value_heads") or heads) * head * 2
    return int(rows * tokens * kept + read * tokens * (6 * model + 2 * text.get("intermediate_size", 4 * model)) * 2)


def rewriter_bytes(config: Config, batch: int, candidates: int, answer: int) -> int | None:
    """As `answer_bytes`, for the rewriter: each conversation has several answers."""
    return answer_bytes(config, batch, _TEXT_TOKENS + answer, max(1, batch // max(1, candidates)))


def judge_bytes(config: Config, batch: int, sample_fps: float, fps: float, call: Config) -> int | None:
    """As `answer_bytes`, for a judge that sees frames of the video."""
    size = _video_size(call)
    if size is None:
        return None
    frames = size[0] / fps * sample_fps if sample_fps else float(size[0])
    seen = frames / 2 * (size[1] // _FRAME_TOKENS_SIDE) * (size[2] // _FRAME_TOKENS_SIDE)
    return answer_bytes(config, batch, _TEXT_TOKENS + int(seen), batch)
