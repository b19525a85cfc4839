"""Tiny random copies of other text-to-video pipelines of diffusers, with the type of every part as published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LattePipeline,
    LatteTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel, T5Config, T5EncoderModel

from tests.tiny_models import t5_tokenizer

Built = tuple[DiffusionPipeline, dict[str, Any]]
"""A pipeline and the arguments of its smallest call."""
SMALL = {"num_inference_steps": 2, "guidance_scale": 3.0}


def _t5() -> dict[str, Any]:
    torch.manual_seed(0)
    tokenizer = t5_tokenizer()
    config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return {"tokenizer": tokenizer, "text_encoder": T5EncoderModel(config)}


def cogvideox() -> Built:
    pipeline = CogVideoXPipeline(
        **_t5(),
        transformer=CogVideoXTransformer3DModel(
            num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=2,
            text_embed_dim=32, num_layers=1, sample_width=2, sample_height=2, sample_frames=9, patch_size=2,
            max_text_seq_length=16,
        ),
        vae=AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
            temporal_compression_ratio=4,
        ),
        scheduler=CogVideoXDDIMScheduler(),
    )  # fmt: skip
    return pipeline, {**SMALL, "height": 16, "width": 16, "num_frames": 9, "max_sequence_length": 16}


def latte() -> Built:
    pipeline = LattePipeline(
        **_t5(),
        transformer=LatteTransformer3DModel(
            sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=3, caption_channels=32,
            in_channels=4, cross_attention_dim=24, out_channels=8, attention_bias=True, activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000, norm_type="ada_norm_single", norm_elementwise_affine=False, video_length=2,
        ),
        vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=2),
        scheduler=DDIMScheduler(),
    )  # fmt: skip
    return pipeline, {**SMALL, "height": 8, "width": 8, "video_length": 2, "clean_caption": False}


def mochi() -> Built:
    pipeline = MochiPipeline(
        **_t5(),
        transformer=MochiTransformer3DModel(
            patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=2, pooled_projection_dim=16,
            in_channels=12, qk_norm="rms_norm", text_embed_dim=32, time_embed_dim=4, max_sequence_length=16,
        ),
        vae=AutoencoderKLMochi(
            latent_channels=12, out_channels=3, encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32), layers_per_block=(1, 1, 1, 1, 1),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip
    return pipeline, {**SMALL, "height": 16, "width": 16, "num_frames": 7, "max_sequence_length": 16}


def ltx() -> Built:
    pipeline = LTXPipeline(
        **_t5(),
        transformer=LTXVideoTransformer3DModel(
            in_channels=8, out_channels=8, num_attention_heads=4, attention_head_dim=8, cross_attention_dim=32,
            num_layers=1, caption_channels=32,
        ),
        vae=AutoencoderKLLTXVideo(
            latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False, False),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip
    return pipeline, {**SMALL, "height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 16}


def hunyuan_video() -> Built:
    torch.manual_seed(0)
    tokenizer = t5_tokenizer()
    size = len(tokenizer)
    llama = LlamaConfig(
        vocab_size=size, hidden_size=16, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4
    )
    clip = CLIPTextConfig(
        vocab_size=size, hidden_size=8, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, projection_dim=32,
        pad_token_id=0, bos_token_id=0, eos_token_id=1, max_position_embeddings=77,
    )  # fmt: skip
    tokenizer.model_max_length = 77
    pipeline = HunyuanVideoPipeline(
        text_encoder=LlamaModel(llama),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModel(clip),
        tokenizer_2=tokenizer,
        transformer=HunyuanVideoTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1, num_single_layers=1,
            num_refiner_layers=1, text_embed_dim=16, pooled_projection_dim=8, rope_axes_dim=(2, 4, 4),
        ),
        vae=AutoencoderKLHunyuanVideo(
            latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4,
            mid_block_add_attention=True,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
    )  # fmt: skip
    template = {"template": "{}", "crop_start": 0}
    return pipeline, {**SMALL, "height": 16, "width": 16, "num_frames": 9, "max_sequence_length": 16,
                      "prompt_template": template}  # fmt: skip


ALL: dict[str, Callable[[], Built]] = {
    "CogVideoXPipeline": cogvideox,
    "HunyuanVideoPipeline": hunyuan_video,
    "LattePipeline": latte,
    "LTXPipeline": ltx,
    "MochiPipeline": mochi,
}
"""Builders by class name."""
