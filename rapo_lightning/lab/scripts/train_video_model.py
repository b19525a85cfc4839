"""Trains lab-wan from nothing: `python -m rapo_lightning.lab.scripts.train_video_model --out DIR`.

One GPU; the shipped weights took the seconds named in their card. Killed and started again with the same `--work`
folder it goes on. Writes a diffusers folder, a card, the loss logs and a grid of sample videos.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ...console import quiet
from ..scene import Scene
from .timed_training import Batch, Clock, Draws, train
from .training_data import ClipPool, sample_captions, sample_scenes, tokenize
from .transformer_training import Denoiser, encode_pool, normalized
from .vae_training import VaeTraining, stage_at, whole_clip
from .video_model import build_text_encoder, build_tokenizer, build_transformer, build_vae, save_pipeline
from .video_model_card import write_card

CAPTIONS_PER_CLIP = 4


@dataclass(frozen=True)
class Latents:
    """Encoded clips.

    Attributes:
        normalized: `(count, channels, 5, 16, 16)`, bfloat16.
        mean: Mean of each channel before that, `(channels,)`.
        std: Standard deviation of each channel.
    """

    normalized: Tensor
    mean: Tensor
    std: Tensor


def train_vae(args: argparse.Namespace, device: torch.device) -> AutoencoderKLWan:
    """Trains the VAE for `args.vae_seconds` and returns it with averaged weights, in whole-clip form."""
    torch.manual_seed(args.seed)
    module = VaeTraining(whole_clip(build_vae()).to(device), args.seed)

    def batches(clock: Clock) -> Draws:
        pool = ClipPool(sample_scenes(args.vae_clips, args.seed), args.seed, device)

        def draw() -> Batch:
            frames, count = stage_at(clock.share)
            return pool.sample(max(count // args.shrink, 2), frames)

        return Draws(draw)

    train(module, batches, args.work, "vae", args.vae_seconds, device)
    return module.vae


def cached_latents(vae: AutoencoderKLWan, scenes: list[Scene], seed: int, device: torch.device) -> Latents:
    """Renders and encodes scenes."""
    latents = encode_pool(vae, ClipPool(scenes, seed, device))
    mean, std = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
    return Latents(normalized(latents, mean, std), mean, std)


def train_denoiser(
    args: argparse.Namespace, vae: AutoencoderKLWan, tokenizer: PreTrainedTokenizerFast, device: torch.device
) -> tuple[Denoiser, Latents]:
    """Trains transformer and text encoder; returns them with the latents they were trained on."""
    scenes = sample_scenes(args.clips, args.seed + 1)
    latents = cached_latents(vae, scenes, args.seed + 1, device)
    variants = [sample_captions(scenes, args.seed + i) for i in range(CAPTIONS_PER_CLIP)]
    tokens = torch.stack([tokenize(tokenizer, captions, device) for captions in variants], dim=1)
    torch.manual_seed(args.seed)
    denoiser = Denoiser(build_transformer(), build_text_encoder(len(tokenizer)), args.seed).to(device)

    def draw() -> Batch:
        chosen = torch.randint(len(scenes), (max(512 // args.shrink, 2),), device=device)
        wording = torch.randint(CAPTIONS_PER_CLIP, (len(chosen),), device=device)
        return latents.normalized[chosen].float(), tokens[chosen, wording]

    train(denoiser, lambda clock: Draws(draw), args.work, "denoiser", args.denoiser_seconds, device)
    return denoiser, latents


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("ckpt/lab/video_model"), help="diffusers folder to write")
    parser.add_argument("--work", type=Path, default=Path("runs/lab-video-model"), help="saves and loss logs")
    parser.add_argument("--vae-seconds", type=float, default=420.0)
    parser.add_argument("--denoiser-seconds", type=float, default=540.0)
    parser.add_argument("--vae-clips", type=int, default=24_000, help="clips rendered for the VAE")
    parser.add_argument("--clips", type=int, default=64_000, help="clips rendered for the transformer")
    parser.add_argument("--shrink", type=int, default=1, help="divide all batch sizes, for a try without a GPU")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and trains."""
    args = _arguments().parse_args(arguments)
    quiet()
    args.work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True

    tokenizer = build_tokenizer(sample_captions(sample_scenes(20_000, args.seed), args.seed))
    vae = train_vae(args, device)
    denoiser, latents = train_denoiser(args, vae, tokenizer, device)
    shipped = build_vae(latents.mean.tolist(), latents.std.tolist())
    shipped.load_state_dict(vae.state_dict())
    save_pipeline(args.out, shipped, denoiser.transformer, denoiser.text_encoder, tokenizer)
    write_card(args.out, args.work, vars(args))


if __name__ == "__main__":
    main()
