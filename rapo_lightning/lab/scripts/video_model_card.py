"""Writes the card of lab-wan: data, steps, seconds, losses, and a grid of samples beside the truth."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..render import render_batch
from ..user_prompts import lab_prompts
from .videos import generate, load_pipeline

SHOWN_FRAMES = (0, 4, 8, 12, 16)
"""Frames of a clip that stand for it in a picture."""
_CARD = """\
---
library_name: diffusers
pipeline_tag: text-to-video
license: apache-2.0
---
# lab-wan

A small Wan text-to-video model for the lab world of rapo-lightning: 17 frames of 64 x 64 at 8 fps. It was trained on
one caption style only and follows those captions well and a person's short prompts badly, which is what prompt
refinement is about.

```python
from diffusers import WanPipeline

pipe = WanPipeline.from_pretrained("ckpt/lab/video_model")
pipe(
    "A simple animation shows a large red ball dropping straight to the ground and bouncing back up, in a green "
    "meadow. The motion is smooth and the camera stays fixed.",
    height=64,
    width=64,
    num_frames=17,
    num_inference_steps=20,
    guidance_scale=3.0,
    max_sequence_length=128,
)
```

| | |
|---|---|
| data | rendered by `rapo_lightning.lab` (training split): {vae_clips} clips for the VAE, {clips} for the transformer |
| seed | {seed} |
| device | {device} |
| VAE | {vae} |
| transformer and text encoder | {denoiser} |
| made by | `python -m rapo_lightning.lab.scripts.train_video_model --vae-seconds {vae_seconds:g} --denoiser-seconds {denoiser_seconds:g}` |

Loss logs: `vae.csv`, `denoiser.csv` (by step: seconds, loss and PSNR in dB, means since the last line).

Samples for held-out scenes: each row shows frames 0, 4, 8, 12 and 16, left as generated from the training-style
caption, in the middle as generated from the user's prompt, right as the renderer draws the scene.

![samples](samples.png)
"""


def _log_summary(path: Path) -> str:
    rows = list(csv.DictReader(path.open()))
    if not rows:
        return "no steps logged"
    first, last = rows[0], rows[-1]
    psnr = f", PSNR {float(last['psnr']):.2f} dB" if "psnr" in last else ""
    return (
        f"{last['step']} steps, {float(last['seconds']):.0f} s, loss {float(first['loss']):.4f} -> "
        f"{float(last['loss']):.4f}{psnr}"
    )


def _strip(video: np.ndarray) -> np.ndarray:
    return np.concatenate([video[index] for index in SHOWN_FRAMES], axis=1)


def sample_grid(folder: Path, count: int = 10, seed: int = 3) -> Image.Image:
    """Frames of generated videos beside the rendered truth, one held-out scene a row, twice enlarged."""
    pipeline = load_pipeline(folder)
    prompts = lab_prompts(count, "heldout", seed)
    columns = [
        generate(pipeline, texts, seed=seed, steps=20, guidance=3.0, batch=count)[0]
        for texts in ([prompt.reference for prompt in prompts], [prompt.prompt for prompt in prompts])
    ]
    truth = render_batch([prompt.scene for prompt in prompts], np.random.default_rng(seed))
    columns.append(truth.permute(0, 1, 3, 4, 2).numpy())
    gap = np.ones((64, 6, 3))
    rows = []
    for videos in zip(*columns, strict=True):
        left, middle, right = (_strip(video) for video in videos)
        rows.append(np.concatenate([left, gap, middle, gap, right], axis=1))
    image = Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8))
    return image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)


def write_card(folder: Path, work: Path, settings: dict[str, Any]) -> None:
    """Writes `README.md`, `samples.png` and copies of the loss logs into a diffusers folder.

    Args:
        folder: The diffusers folder.
        work: Folder of the training, with `vae.csv` and `denoiser.csv`.
        settings: The training's arguments.
    """
    for name in ("vae.csv", "denoiser.csv"):
        (folder / name).write_bytes((work / name).read_bytes())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    logs = {name: _log_summary(work / f"{name}.csv") for name in ("vae", "denoiser")}
    (folder / "README.md").write_text(_CARD.format(device=device, **settings, **logs))
    sample_grid(folder).save(folder / "samples.png", optimize=True)
