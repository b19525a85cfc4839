"""Measures the lab world and its video model: `python -m rapo_lightning.lab.scripts.measure`.

Prints the table of docs/lab.md: reconstruction, oracle on rendered truth, oracle score of generated videos for
training-style captions and for users' prompts, and seconds per video. Intervals are 95 % bootstrap over prompts.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanPipeline

from ...evaluation.statistics import bootstrap_interval
from ..oracle import judge, read_video
from ..render import render_batch
from ..scene import Scene, sample_scene
from ..user_prompts import lab_prompts
from ..world import FRAME_SIZE, NUM_FRAMES
from .training_data import ClipPool, sample_scenes

CALL = {"height": FRAME_SIZE, "width": FRAME_SIZE, "num_frames": NUM_FRAMES, "max_sequence_length": 128}


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKLWan, clips: int, seed: int) -> np.ndarray:
    """PSNR in dB of each of `clips` held-out 17-frame clips (8-bit input, the library's encode and decode)."""
    pool = ClipPool(sample_scenes(clips, seed, "heldout"), seed, vae.device)
    values = []
    for indices in torch.arange(clips, device=vae.device).split(8):
        batch = pool.batch(indices, NUM_FRAMES)[0]
        decoded = vae.decode(vae.encode(batch.to(vae.dtype)).latent_dist.mode()).sample.float()
        values.append(-10 * torch.log10(((decoded - batch) / 2).square().mean(dim=(1, 2, 3, 4))))
    return torch.cat(values).cpu().numpy()


def expected_attributes(scene: Scene) -> dict[str, str]:
    """What the oracle should read from a perfect video of `scene`."""
    expected = {"background": scene.background, "motion": scene.motion, "direction": scene.direction}
    for suffix, body in zip(("", "_2"), scene.bodies, strict=False):
        expected |= {f"shape{suffix}": body.shape, f"colour{suffix}": body.colour, f"size{suffix}": body.size}
    return {key: value for key, value in expected.items() if value}


def oracle_on_truth(count: int, seed: int) -> np.ndarray:
    """For each of `count` rendered held-out scenes, 1.0 if the oracle reads every attribute right."""
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, "heldout") for _ in range(count)]
    frames = render_batch(scenes, rng).permute(0, 1, 3, 4, 2).numpy()
    return np.array(
        [read_video(clip).attributes == expected_attributes(s) for s, clip in zip(scenes, frames, strict=True)], float
    )


def generate(
    pipeline: WanPipeline, prompts: list[str], seed: int, steps: int, guidance: float, batch: int
) -> tuple[np.ndarray, float]:
    """Videos of prompts, `(count, 17, 64, 64, 3)` in 0..1, the same seed for each, and the seconds per video."""
    videos, start = [], time.monotonic()
    for begin in range(0, len(prompts), batch):
        texts = prompts[begin : begin + batch]
        generators = [torch.Generator().manual_seed(seed) for _ in texts]
        videos.append(
            pipeline(
                prompt=texts, generator=generators, num_inference_steps=steps, guidance_scale=guidance,
                output_type="np", **CALL,
            ).frames
        )  # fmt: skip
    return np.concatenate(videos), (time.monotonic() - start) / len(prompts)


def _score(task: tuple[str, np.ndarray]) -> tuple[float, dict[str, bool]]:
    verdict = judge(*task)
    return verdict.score, verdict.right


def score_videos(prompts: list[str], videos: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Oracle scores of videos against prompts, and the share of right answers per attribute."""
    with ProcessPoolExecutor() as pool:
        results = list(pool.map(_score, zip(prompts, videos.astype(np.float32), strict=True), chunksize=8))
    rights: dict[str, list[bool]] = {}
    for _, right in results:
        for key, value in right.items():
            rights.setdefault(key, []).append(value)
    return np.array([score for score, _ in results]), {k: round(float(np.mean(v)), 3) for k, v in rights.items()}


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("ckpt/lab/video_model"), help="diffusers folder")
    parser.add_argument("--prompts", type=int, default=300, help="held-out prompts to generate for")
    parser.add_argument("--clips", type=int, default=256, help="held-out clips to reconstruct")
    parser.add_argument("--scenes", type=int, default=2000, help="rendered scenes to read")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="where to write the figures as JSON")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = WanPipeline.from_pretrained(args.model).to(device)
    pipeline.set_progress_bar_config(disable=True)
    prompts = lab_prompts(args.prompts, "heldout", seed=args.seed + 1)
    figures: dict[str, object] = {"settings": {k: str(v) for k, v in vars(args).items()}, "device": device}

    def note(name: str, values: np.ndarray) -> None:
        low, high = bootstrap_interval(values)
        figures[name] = {"mean": round(float(values.mean()), 4), "ci95": [low, high], "n": len(values)}
        print(f"{name}: {values.mean():.4f} [{low:.4f}, {high:.4f}] n={len(values)}", flush=True)

    note("reconstruction_psnr_db", reconstruction_psnr(pipeline.vae, args.clips, args.seed))
    note("oracle_all_right_on_truth", oracle_on_truth(args.scenes, args.seed))
    requests = [prompt.prompt for prompt in prompts]
    for arm, texts in (("reference", [prompt.reference for prompt in prompts]), ("raw", requests)):
        videos, seconds = generate(pipeline, texts, args.seed, args.steps, args.guidance, args.batch)
        scores, rights = score_videos(requests, videos)
        note(f"oracle_score_{arm}", scores)
        figures[f"attributes_{arm}"] = rights
        figures[f"seconds_per_video_{arm}"] = round(seconds, 3)
        print(f"  {rights}\n  {seconds:.3f} s per video", flush=True)
    if args.out:
        args.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
