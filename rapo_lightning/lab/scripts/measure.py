"""Measures the lab's oracle and its video model: `python -m rapo_lightning.lab.scripts.measure`.

Prints the figures of docs/lab.md. Prompts and captions are those of `recipes/lab/prompts_heldout.csv`, in its order; scenes
beyond them are held-out ones too. Intervals are 95 % bootstrap over prompts (or scenes, or clips).

Parts: `truth` (rendered videos, and the chance level), `degenerate` (broken videos), `damage` (true videos, blurred and so on),
`reconstruction` (through the VAE), `generate` (videos of the captions and of the users' prompts), `speed` (seconds per video, in
turns with `--other`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from diffusers import WanPipeline
from numpy.typing import ArrayLike

from ...data.prompts import read_prompts
from ...evaluation.statistics import bootstrap_interval
from ..damage import HARSH, MILD
from ..degenerate import DEGENERATE
from ..reading import read_caption
from .judging import (
    Drawing,
    Workers,
    fault_shares,
    judge_drawing,
    judge_frames,
    read_drawing,
    read_frames,
    shares,
)
from .training_data import sample_scenes
from .videos import generate, load_pipeline, reconstruct

PARTS = ("truth", "degenerate", "damage", "reconstruction", "generate")
SPEED = "speed"
HELDOUT = "recipes/lab/prompts_heldout.csv"


class Figures:
    """What was measured, printed at once and written at the end."""

    def __init__(self, settings: dict[str, object]) -> None:
        """Keeps the settings with the figures."""
        self.values: dict[str, object] = {"settings": {key: str(value) for key, value in settings.items()}}

    def note(self, name: str, values: ArrayLike, **more: object) -> None:
        """A mean with its interval, and what else is to be said of it."""
        array = np.asarray(values, float)
        low, high = bootstrap_interval(array)
        self.values[name] = {"mean": round(float(array.mean()), 4), "ci95": [low, high], "n": len(array), **more}
        print(f"{name}: {array.mean():.4f} [{low:.4f}, {high:.4f}] n={len(array)}", flush=True)
        for key, value in more.items():
            print(f"  {key}: {value}", flush=True)


class Measurement:
    """The parts, with what they share."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Reads the held-out prompts and their scenes."""
        self.args, self.workers = args, Workers()
        self.figures = Figures(vars(args))
        rows = read_prompts(HELDOUT)[: args.prompts]
        self.requests, self.captions = [row.text for row in rows], [row.reference for row in rows]
        scenes = [read_caption(caption) for caption in self.captions]
        self.scenes = [scene for scene in scenes if scene is not None]
        if len(self.scenes) < len(rows):
            raise ValueError(f"The references of {HELDOUT} must be captions of the lab. Got one that is none.")
        self._pipeline: WanPipeline | None = None

    @property
    def pipeline(self) -> WanPipeline:
        """The video model, loaded when it is first needed."""
        if self._pipeline is None:
            self._pipeline = load_pipeline(self.args.model)
            self.figures.values["device"] = str(self._pipeline.device)
        return self._pipeline

    def _drawings(self, broken: str = "", shift: int = 0, damage: str = "") -> list[Drawing]:
        scenes = self.scenes[shift:] + self.scenes[:shift]
        return [
            Drawing(scene, self.args.seed + index, broken, damage, prompt)
            for index, (scene, prompt) in enumerate(zip(scenes, self.requests, strict=True))
        ]

    def truth(self) -> None:
        """How well rendered videos are read, what they score, and what unrelated ones score."""
        scenes = sample_scenes(self.args.scenes, self.args.seed, "heldout")
        answers = self.workers(read_drawing, [Drawing(scene, self.args.seed + i) for i, scene in enumerate(scenes)])
        self.figures.note("oracle_all_right_on_truth", [a["all"] for a in answers], shares=shares(answers))
        for name, shift in (("oracle_score_truth", 0), ("oracle_score_unrelated", 1)):
            verdicts = [v for v in self.workers(judge_drawing, self._drawings(shift=shift)) if v]
            scores = [v.score for v in verdicts if v.score is not None]
            self.figures.note(name, scores, min=min(scores), max=max(scores), unscored=len(verdicts) - len(scores))

    def degenerate(self) -> None:
        """What broken videos of the prompts' own scenes score."""
        for broken in DEGENERATE:
            verdicts = [v for v in self.workers(judge_drawing, self._drawings(broken)) if v]
            scores = [v.score for v in verdicts if v.score is not None]
            self.figures.note(f"degenerate_{broken}", scores, max=max(scores), faults=fault_shares(verdicts))

    def damage(self) -> None:
        """What true videos of the prompts' own scenes score when they are damaged."""
        for damage in (*MILD, *HARSH):
            verdicts = [v for v in self.workers(judge_drawing, self._drawings(damage=damage)) if v]
            scores = [v.score for v in verdicts if v.score is not None]
            self.figures.note(f"damaged: {damage}", scores, min=min(scores), faults=fault_shares(verdicts))

    def speed(self) -> None:
        """Seconds per video, one batch after another; with another model's in turns, so that the ratio is of one run."""
        args, pipelines = self.args, [self.pipeline]
        if args.other:
            pipelines.append(load_pipeline(args.other))
        seconds = np.array(
            [
                [
                    generate(pipeline, self.captions[: args.batch], args.seed, args.steps, args.guidance, args.batch)[1]
                    for pipeline in pipelines
                ]
                for _ in range(args.turns + 1)
            ]
        )[1:]  # the first turn warms up
        self.figures.note("seconds_per_video", seconds[:, 0])
        if args.other:
            self.figures.note("seconds_per_video_other", seconds[:, 1])
            ratios = seconds[:, 0] / seconds[:, 1]
            self.figures.note("speed_ratio", ratios, median=round(float(np.median(ratios)), 3))

    def reconstruction(self) -> None:
        """What the VAE leaves of rendered videos: PSNR, and how well they are still read, by size and number of bodies."""
        scenes = sample_scenes(self.args.clips, self.args.seed, "heldout")
        psnr, clips = reconstruct(self.pipeline.vae, scenes, self.args.seed)
        self.figures.note("reconstruction_psnr_db", psnr)
        answers = self.workers(read_frames, list(zip(scenes, clips, strict=True)))
        self.figures.note("reconstruction_all_right", [a["all"] for a in answers], shares=shares(answers))
        for group, count in (("single", 1), ("pair", 2)):
            for size in ("small", "medium", "large"):
                chosen = [
                    {key.removesuffix("_2"): value}
                    for scene, answer in zip(scenes, answers, strict=True)
                    for suffix, body in zip(("", "_2"), scene.bodies, strict=False)
                    for key, value in answer.items()
                    if len(scene.bodies) == count and body.size == size
                    and key in (f"shape{suffix}", f"colour{suffix}", f"size{suffix}", "all", "faultless")
                ]  # fmt: skip
                if chosen:
                    bodies = sum("shape" in item for item in chosen)
                    print(f"  {group} {size}, {bodies} bodies: {shares(chosen)}", flush=True)
                    self.figures.values[f"reconstruction_{group}_{size}"] = {**shares(chosen), "n": bodies}

    def generate(self) -> None:
        """What videos of the captions and of the users' prompts score; the mean over seeds for each prompt."""
        args = self.args
        for arm, texts in (("reference", self.captions), ("raw", self.requests)):
            verdicts, seconds = [], []
            for seed in range(args.seed, args.seed + args.seeds):
                videos, spent = generate(self.pipeline, texts, seed, args.steps, args.guidance, args.batch)
                verdicts.append(self.workers(judge_frames, list(zip(self.requests, videos, strict=True))))
                seconds.append(spent)
            flat = [verdict for one in verdicts for verdict in one]
            scores = np.array([[np.nan if v.score is None else v.score for v in one] for one in verdicts])
            known = np.isfinite(scores).all(0)
            self.figures.note(
                f"oracle_score_{arm}", scores[:, known].mean(0), by_seed=scores[:, known].mean(1).round(4).tolist(),
                shares=shares(v.right for v in flat), faults=fault_shares(flat),
                seconds_per_video=round(float(np.mean(seconds)), 3), unscored=int((~known).sum()),
            )  # fmt: skip


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("ckpt/lab/video_model"), help="diffusers folder")
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, SPEED), default=list(PARTS), help="what to measure")
    parser.add_argument("--prompts", type=int, default=360, help="held-out prompts, from the first on")
    parser.add_argument("--clips", type=int, default=256, help="held-out clips to reconstruct")
    parser.add_argument("--scenes", type=int, default=2000, help="rendered scenes to read")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3, help="videos of each prompt; their seeds count up from --seed")
    parser.add_argument("--other", type=Path, default=None, help="diffusers folder to compare the speed with")
    parser.add_argument("--turns", type=int, default=12, help="batches that the speed is measured on")
    parser.add_argument("--out", type=Path, default=None, help="where to write the figures as JSON")
    args = parser.parse_args()
    measurement = Measurement(args)
    for part in args.parts:
        getattr(measurement, part)()
    measurement.workers.close()
    if args.out:
        args.out.write_text(json.dumps(measurement.figures.values, indent=2) + "\n")


if __name__ == "__main__":
    main()
