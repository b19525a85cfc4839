"""Trains a second video model of the lab, which follows tags: `python -m rapo_lightning.lab.scripts.train_second_model`.

Adapters on lab-wan's transformer and text encoder, trained on rendered clips of the training split with the tags of their scenes,
and merged: `--out` is a diffusers folder like lab-wan's. One GPU; killed and started again with the same `--work` folder it goes on.
For docs/study.md, "Another video model"; nothing of it ships.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline

from ...checkpoints import locate
from ...console import quiet, say
from ...evaluation.statistics import bootstrap_interval
from .judging import judge_frames
from .second_style import AdaptedDenoiser, sample_tags, style_batches
from .timed_training import Clock, Draws, train
from .training_data import ClipPool, sample_captions, sample_scenes
from .transformer_training import encode_pool, normalized
from .vae_training import whole_clip
from .video_model import save_pipeline
from .videos import generate, load_pipeline

NAME = "second"


def train_second(args: argparse.Namespace, pipeline: WanPipeline, device: torch.device) -> AdaptedDenoiser:
    """Trains the adapters for `args.seconds` and merges them.

    Args:
        args: The script's arguments.
        pipeline: lab-wan, in float32.
        device: Where to train.
    """
    torch.manual_seed(args.seed)
    module = AdaptedDenoiser(pipeline.transformer, pipeline.text_encoder, args.rank, args.seed).to(device)
    say(f"{module.trained / 1e6:.2f} million weights are trained")

    def batches(clock: Clock) -> Draws:
        scenes, vae = sample_scenes(args.clips, args.seed + 1), whole_clip(pipeline.vae.to(device))
        known = [torch.tensor(values, device=device) for values in (vae.config.latents_mean, vae.config.latents_std)]
        latents = normalized(encode_pool(vae, ClipPool(scenes, args.seed + 1, device)), *known)
        return Draws(style_batches(latents, scenes, pipeline.tokenizer, max(512 // args.shrink, 2), args.seed))

    train(module, batches, args.work, NAME, args.seconds, device)
    module.merge()
    return module


def check(folder: Path, count: int, seed: int) -> dict[str, tuple[float, float, float]]:
    """Lets a model make videos of held-out scenes from tags and from captions, and prints what the oracle gives them.

    Args:
        folder: The diffusers folder.
        count: How many scenes.
        seed: Seed of scenes, wordings and noise.

    Returns:
        Mean, lower and upper end of the 95 % bootstrap interval over scenes, by style.
    """
    pipeline, scenes = load_pipeline(folder), sample_scenes(count, seed + 2, "heldout")
    captions, found = sample_captions(scenes, seed), {}
    for style, texts in (("tags", sample_tags(scenes, seed)), ("captions", captions)):
        videos, _ = generate(pipeline, texts, seed, 20, 3.0, 64, own_noise=True)
        # The caption is the request, so that all attributes are asked for.
        scores = [judge_frames(task).score or 0.0 for task in zip(captions, videos, strict=True)]
        found[style] = (float(np.mean(scores)), *bootstrap_interval(scores))
        say("oracle's score of {} held-out scenes from {}: {:.3f} [{:.3f}, {:.3f}]".format(count, style, *found[style]))
    return found


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer/video_model"), help="diffusers folder to write")
    parser.add_argument("--work", type=Path, default=Path("runs/transfer/training"), help="saves and loss log")
    parser.add_argument("--model", default="lab/video_model", help="what the adapters are put on")
    parser.add_argument("--seconds", type=float, default=300.0, help="time of the training, over all starts")
    parser.add_argument("--clips", type=int, default=48_000, help="clips rendered for the training")
    parser.add_argument("--rank", type=int, default=32, help="rank of the adapters")
    parser.add_argument(
        "--check", type=int, default=64, help="held-out scenes that the result is looked at with; 0: none"
    )
    parser.add_argument("--shrink", type=int, default=1, help="divide the batch size, for a try without a GPU")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and trains."""
    args = _arguments().parse_args(arguments)
    quiet()
    args.work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    pipeline = WanPipeline.from_pretrained(locate(args.model), dtype=torch.float32)
    trained = train_second(args, pipeline, device)
    save_pipeline(args.out, pipeline.vae, trained.transformer, trained.text_encoder, pipeline.tokenizer)
    say(f"the second video model is {args.out}")
    if args.check:
        check(args.out, args.check, args.seed)


if __name__ == "__main__":
    main()
