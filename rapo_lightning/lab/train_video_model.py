"""Trains lab-wan from nothing: `python -m rapo_lightning.lab.train_video_model --out DIR`.

One GPU; the shipped weights took the seconds named in their card. Killed and started again with the same `--work`
folder it goes on. Writes a diffusers folder, a card, the loss logs and a grid of sample videos.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from .timed_training import LOG_EVERY, TimedTraining
from .training_data import ClipPool, sample_captions, sample_scenes, tokenize
from .transformer_training import Denoiser, encode_pool, flow_matching_loss
from .vae_training import stage_at, vae_loss, whole_clip
from .video_model import build_text_encoder, build_tokenizer, build_transformer, build_vae, save_pipeline
from .video_model_card import write_card

CAPTIONS_PER_CLIP = 4


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def train_vae(args: argparse.Namespace, device: torch.device) -> AutoencoderKLWan:
    """Trains the VAE for `args.vae_seconds` and returns it with averaged weights, in whole-clip form."""
    torch.manual_seed(args.seed)
    vae = whole_clip(build_vae()).to(device, memory_format=args.memory_format)
    training = TimedTraining(vae, args.work, "vae", args.vae_seconds, lr=2e-3, average=0.998, seed=args.seed)
    if training.share < 1:
        pool = ClipPool(sample_scenes(args.vae_clips, args.seed), args.seed, device)

        def loss_of(share: float) -> tuple[Tensor, str]:
            frames, batch = stage_at(share)
            with _autocast(device):
                loss = vae_loss(vae, *pool.sample(max(batch // args.shrink, 2), frames))
            # Reading the error waits for the device, so it is read for the log alone.
            note = f"frames {frames}"
            if (training.step + 1) % LOG_EVERY == 0:
                note += f" psnr {-10 * math.log10(float(loss.mse)):.2f} dB"
            return loss.total, note

        training.run(loss_of)
    vae.load_state_dict(training.ema)
    return vae.eval()


def train_denoiser(
    args: argparse.Namespace, vae: AutoencoderKLWan, tokenizer: PreTrainedTokenizerFast, device: torch.device
) -> tuple[Denoiser, Tensor, Tensor]:
    """Trains transformer and text encoder; returns them with the mean and deviation of the latent channels."""
    scenes = sample_scenes(args.clips, args.seed + 1)
    pool = ClipPool(scenes, args.seed + 1, device)
    latents = encode_pool(vae, pool)
    del pool
    mean, std = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
    latents = ((latents - mean[:, None, None, None]) / std[:, None, None, None]).to(torch.bfloat16)
    variants = [sample_captions(scenes, args.seed + i) for i in range(CAPTIONS_PER_CLIP)]
    tokens = torch.stack([tokenize(tokenizer, captions, device) for captions in variants], dim=1)
    torch.manual_seed(args.seed)
    denoiser = Denoiser(build_transformer(), build_text_encoder(len(tokenizer))).to(device)
    training = TimedTraining(
        denoiser, args.work, "denoiser", args.denoiser_seconds, lr=1e-3, average=0.9995, seed=args.seed
    )

    def loss_of(share: float) -> tuple[Tensor, str]:
        chosen = torch.randint(len(latents), (max(512 // args.shrink, 2),), device=device)
        wording = torch.randint(CAPTIONS_PER_CLIP, (len(chosen),), device=device)
        with _autocast(device):
            return flow_matching_loss(denoiser, latents[chosen].float(), tokens[chosen, wording]), ""

    training.run(loss_of)
    denoiser.load_state_dict(training.ema)
    return denoiser.eval(), mean, std


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("ckpt/lab/video_model"), help="diffusers folder to write")
    parser.add_argument("--work", type=Path, default=Path("runs/lab-video-model"), help="saves and loss logs")
    parser.add_argument("--vae-seconds", type=float, default=420.0)
    parser.add_argument("--denoiser-seconds", type=float, default=540.0)
    parser.add_argument("--vae-clips", type=int, default=24_000, help="clips rendered for the VAE")
    parser.add_argument("--clips", type=int, default=64_000, help="clips rendered for the transformer")
    parser.add_argument("--shrink", type=int, default=1, help="divide all batch sizes, for a try without a GPU")
    parser.add_argument(
        "--channels-last",
        dest="memory_format",
        action="store_const",
        const=torch.channels_last_3d,
        default=torch.contiguous_format,
        help="layout of the VAE's weights; try what is faster",
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True

    tokenizer = build_tokenizer(sample_captions(sample_scenes(20_000, args.seed), args.seed))
    vae = train_vae(args, device)
    denoiser, mean, std = train_denoiser(args, vae, tokenizer, device)
    shipped = build_vae(mean.tolist(), std.tolist())
    shipped.load_state_dict(vae.state_dict())
    save_pipeline(args.out, shipped, denoiser.transformer, denoiser.text_encoder, tokenizer)
    write_card(args.out, args.work, vars(args))


if __name__ == "__main__":
    main()
