"""Videos that lab-wan makes: reconstructions of true clips and clips of prompts, for the measuring script."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanPipeline
from numpy.typing import NDArray

from ..scene import Scene
from ..world import FRAME_SIZE, NUM_FRAMES
from .training_data import ClipPool

CALL = {"height": FRAME_SIZE, "width": FRAME_SIZE, "num_frames": NUM_FRAMES, "max_sequence_length": 128}


def _bytes(videos: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (videos.clip(0, 1) * 255).round().astype(np.uint8)


def load_pipeline(folder: Path) -> WanPipeline:
    """The video model of a diffusers folder, on the GPU if there is one, without a progress bar."""
    pipeline = WanPipeline.from_pretrained(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def reconstruct(
    vae: AutoencoderKLWan, scenes: Sequence[Scene], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Encodes and decodes a clip of each scene with the library's own calls.

    Args:
        vae: The VAE.
        scenes: What to draw.
        seed: Seed of the drawing.

    Returns:
        PSNR in dB of each clip, `(scenes,)`, and the decoded clips, `(scenes, 17, 64, 64, 3)`.
    """
    pool = ClipPool(list(scenes), seed, vae.device)
    values, clips = [], []
    for indices in torch.arange(len(scenes), device=vae.device).split(8):
        batch = pool.batch(indices, NUM_FRAMES)[0]
        decoded = vae.decode(vae.encode(batch.to(vae.dtype)).latent_dist.mode()).sample.float()
        values.append(-10 * torch.log10(((decoded - batch) / 2).square().mean(dim=(1, 2, 3, 4))))
        clips.append(_bytes(((decoded + 1) / 2).permute(0, 2, 3, 4, 1).cpu().numpy()))
    return torch.cat(values).double().cpu().numpy(), np.concatenate(clips)


def generate(
    pipeline: WanPipeline,
    prompts: Sequence[str],
    seed: int,
    steps: int,
    guidance: float,
    batch: int,
    own_noise: bool = False,
) -> tuple[NDArray[np.uint8], float]:
    """Videos of prompts, `(prompts, 17, 64, 64, 3)`, and the seconds per video.

    The seed is the same for each, or, with `own_noise`, counts up.
    """
    videos, start = [], time.monotonic()
    for begin in range(0, len(prompts), batch):
        texts = list(prompts[begin : begin + batch])
        generators = [torch.Generator().manual_seed(seed + own_noise * (begin + i)) for i in range(len(texts))]
        made = pipeline(
            prompt=texts,
            generator=generators,
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type="np",
            **CALL,
        )
        videos.append(_bytes(made.frames))
    return np.concatenate(videos), (time.monotonic() - start) / len(prompts)
