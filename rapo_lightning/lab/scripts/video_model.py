"""Builds lab-wan from its parts: a small `AutoencoderKLWan`, `WanTransformer3DModel` and `UMT5EncoderModel`.

The sizes are the lab's own, chosen so that the bf16 weights stay under 18 MB and a video takes under a second on two
CPU cores; the classes and their conventions (flow matching with shift 3, zero-padded text) are those of Wan2.1. One is
not: the VAE halves the frame twice instead of three times, because a small body would be one latent cell and no shape.
The transformer takes patches of 4 x 4 latent cells instead of 2 x 2 in return, and so as many tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

LATENT_CHANNELS = 8
COMPRESSION = 4
"""Pixels of a frame along one side of a latent cell."""
TEXT_DIM = 192
FLOW_SHIFT = 3.0
"""Wan2.1's shift of the flow-matching schedule for small frames."""


def build_vae(mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> AutoencoderKLWan:
    """A randomly initialized VAE of 1.8 M parameters that compresses 4 x 4 pixels and 4 frames.

    Args:
        mean: Mean of each latent channel, known only after training.
        std: Standard deviation of each latent channel.
    """
    return AutoencoderKLWan(
        base_dim=16,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        scale_factor_spatial=COMPRESSION,
        latents_mean=list(mean or [0.0] * LATENT_CHANNELS),
        latents_std=list(std or [1.0] * LATENT_CHANNELS),
    )


def build_transformer() -> WanTransformer3DModel:
    """A randomly initialized diffusion transformer: 80 tokens for a 17-frame clip of 64 x 64."""
    return WanTransformer3DModel(
        patch_size=(1, 4, 4),
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=128,
        ffn_dim=768,
        num_layers=5,
        rope_max_seq_len=64,
    )


def build_text_encoder(vocab_size: int) -> UMT5EncoderModel:
    """A randomly initialized text encoder, trained together with the transformer."""
    config = UMT5Config(
        vocab_size=vocab_size,
        d_model=TEXT_DIM,
        d_kv=32,
        d_ff=384,
        num_layers=2,
        num_heads=6,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return UMT5EncoderModel(config)


def build_tokenizer(captions: Sequence[str], vocab_size: int = 768) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on captions; any text can be encoded, only theirs is encoded well."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def save_pipeline(
    folder: Path,
    vae: AutoencoderKLWan,
    transformer: WanTransformer3DModel,
    text_encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Writes the parts as a diffusers folder in bf16 that plain `WanPipeline.from_pretrained` reads."""
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.to(torch.bfloat16),
        vae=vae.to(torch.bfloat16),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT),
        transformer=transformer.to(torch.bfloat16),
    )
    pipeline.save_pretrained(folder)
    # transformers 5 writes the tokenizer's new class name, which diffusers versions of its time do not import.
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
