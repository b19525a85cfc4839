"""Measures lab-vlm: `python -m rapo_lightning.lab.scripts.measure_judge --delta ckpt/lab/judge`.

Prints the judge's figures of docs/lab.md: rank correlation of its score with the oracle's, how often it names the one thing
that is wrong where exactly one is, and how often it describes a video exactly. All scenes are held out. Rendered clips are
judged against a request for their scene, for one with changes, and for another, in words that were trained on and in words
that were not; lab-wan's own clips against the requests of `recipes/lab/prompts_heldout.csv`, made from captions, from captions
of changed scenes, and a fifth from the raw requests and these in the captions' frame. The control judges another video in the
place of each. Intervals are 95 % bootstrap over requests (over videos for descriptions).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap, spearmanr

from ...checkpoints import locate
from ...checkpoints.vision_language import JudgeSettings, assemble
from ...console import quiet
from ...data.prompts import read_prompts
from ...models import TransformersVisionLanguageModel
from ...verifiers.vlm_alignment import VlmVerdict, look_and_compare
from ..describing import description, problems, read_problems
from ..oracle import Reading, compare
from ..reading import read_caption
from ..requests import asked
from ..scene import sample_scene
from ..user_prompts import user_prompt
from ..world import FPS
from .judge_clips import BATCH, changed, given_text, read_bytes, rendered
from .judging import Frames, Workers
from .measure import HELDOUT, Figures
from .videos import generate, load_pipeline

PARTS = ("trained", "heldout", "made")


@dataclass(frozen=True)
class Item:
    """A video with a request, and what the oracle read in the video."""

    frames: Frames
    request: str
    reading: Reading

    @property
    def truth(self) -> tuple[list[str], bool, float]:
        """The problems, whether exactly one attribute and nothing else is wrong, and the oracle's score."""
        right, faults, score = compare(self.reading, asked(self.request))
        return problems(right, faults), sum(right.values()) == len(right) - 1 and not faults, score


def rendered_items(count: int, wording: str, seed: int) -> list[Item]:
    """Rendered clips of held-out scenes, each with three requests."""
    rng, items = np.random.default_rng(seed), []
    for _ in range(-(-count // 3)):
        scene = sample_scene(rng, "heldout")
        clip = rendered(scene, rng)
        for wanted in (scene, changed(scene, rng), sample_scene(rng, "heldout")):
            items.append(Item(clip.frames, user_prompt(wanted, rng, wording), clip.reading))
    return items


def made_items(args: argparse.Namespace, workers: Workers) -> list[Item]:
    """lab-wan's clips for the held-out requests, as many in new words as in trained ones."""
    rows, rng = read_prompts(HELDOUT), np.random.default_rng(args.seed)
    half = len(rows) // 2
    chosen = [row for pair in zip(rows[:half], rows[half:], strict=True) for row in pair][: args.count]
    texts = []
    for row in chosen:
        scene = read_caption(row.reference)
        assert scene is not None
        texts.append(given_text(scene, row.text, rng))
    frames, _ = generate(load_pipeline(args.video_model), texts, args.seed, args.steps, 3.0, BATCH, True)
    readings = workers(read_bytes, frames)
    return [Item(video, row.text, reading) for video, row, reading in zip(frames, chosen, readings, strict=True)]


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float, float]:
    """Spearman's correlation with the ends of its interval."""

    def statistic(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        return float(spearmanr(first, second).statistic)

    drawn = bootstrap(
        (one, other), statistic, paired=True, vectorized=False, n_resamples=2000, method="percentile", rng=0
    )
    return statistic(one, other), float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def _note_correlation(figures: Figures, name: str, items: Sequence[Item], verdicts: Sequence[VlmVerdict]) -> None:
    pairs = np.array([(v.score, i.truth[2]) for i, v in zip(items, verdicts, strict=True) if v.score is not None])
    rank, low, high = rank_correlation(pairs[:, 0], pairs[:, 1])
    figures.values[name] = {"rank_correlation": rank, "ci95": [low, high], "n": len(pairs)}
    print(f"{name}: {rank:.4f} [{low:.4f}, {high:.4f}] n={len(pairs)} of {len(items)}", flush=True)


def note(figures: Figures, name: str, items: Sequence[Item], verdicts: Sequence[VlmVerdict]) -> None:
    """All figures of one kind of items."""
    _note_correlation(figures, f"{name}_score", items, verdicts)
    truths = [item.truth for item in items]
    named = [read_problems(verdict.compared) for verdict in verdicts]
    single = [number for number, truth in enumerate(truths) if truth[1]]
    if single:
        figures.note(f"{name}_one_wrong_named", [truths[n][0][0] in named[n] for n in single])
        figures.note(f"{name}_one_wrong_named_alone", [truths[n][0] == named[n] for n in single])
    figures.note(f"{name}_problems_exact", [truth[0] == said for truth, said in zip(truths, named, strict=True)])
    # A rendered clip has three requests and one description.
    clips = {item.frames.tobytes(): (item.reading, verdict) for item, verdict in zip(items, verdicts, strict=True)}
    exact = [description(r.attributes, r.faults) == verdict.shown for r, verdict in clips.values()]
    figures.note(f"{name}_description_exact", exact)
    for item, verdict in list(zip(items, verdicts, strict=True))[:3]:
        print(f"  {item.request} | {verdict.shown} | {verdict.compared} | {verdict.score}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delta", type=Path, default=Path("ckpt/lab/judge"), help="folder that `train_judge` wrote")
    parser.add_argument("--base", default="", help="folder of the text model, if it is not the manifest's copy")
    parser.add_argument("--video-model", type=Path, default=Path("ckpt/lab/video_model"), help="lab-wan's folder")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--count", type=int, default=720, help="requests of each part, 720 at most for lab-wan's clips")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="where to write the figures as JSON")
    args = parser.parse_args(arguments)
    quiet()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures, workers = Figures(vars(args)), Workers()
    with tempfile.TemporaryDirectory() as folder:
        base = args.base or locate(JudgeSettings.read(args.delta).base)
        judge = TransformersVisionLanguageModel(
            str(assemble(base, args.delta, Path(folder) / "judge")), batch_size=args.batch
        )
        judge.to(device)
        for part in args.parts:
            wording = "train" if part == "trained" else "heldout"
            made = part == "made"
            items = made_items(args, workers) if made else rendered_items(args.count, wording, args.seed)
            requests, videos = [item.request for item in items], [item.frames for item in items]
            verdicts = look_and_compare(judge, videos, FPS, requests)
            note(figures, part, items, verdicts)
            groups = {"new_words": slice(0, None, 2), "trained_words": slice(1, None, 2)} if made else {}
            for group, chosen in groups.items():
                _note_correlation(figures, f"{part}_{group}_score", items[chosen], verdicts[chosen])
            # Three requests share a rendered clip: six places on is another one.
            other = look_and_compare(judge, [*videos[6:], *videos[:6]], FPS, requests)
            _note_correlation(figures, f"{part}_other_video_score", items, other)
    workers.close()
    if args.out:
        args.out.write_text(json.dumps(figures.values, indent=2) + "\n")


if __name__ == "__main__":
    main()
