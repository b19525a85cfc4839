"""Measures the verifiers of motion: `python -m rapo_lightning.lab.scripts.measure_verifiers`.

Prints the figures of docs/stage2.md. Scenes are held out; intervals are 95 % bootstrap over scenes.

Parts: `broken` (temporal coherence and motion smoothness of rendered clips and of the same scenes broken as in
`lab.degenerate`, and how often the broken one scores lower than the whole one), `words` (how often the motion's words, by the
nearest neighbour among training scenes' words, name the motion), `physics` (the language model's grade of rendered clips under
their own law and under another's).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...models import ModelPool, SentenceEmbedder, TransformersLanguageModel
from ...verifiers import MotionSmoothness, Physics, TemporalCoherence, Verifier, View
from ..degenerate import DEGENERATE
from ..scene import Scene
from ..world import FPS, PHYS_LAWS
from .judging import Drawing, Workers
from .measure import Figures
from .training_data import sample_scenes

PARTS = ("broken", "words", "physics")
VERIFIERS: tuple[Verifier, ...] = (TemporalCoherence(), MotionSmoothness())


def view_of(task: Drawing) -> View | None:
    """A drawn video as verifiers see it; None where there is nothing to break."""
    drawn = task.frames()
    if drawn is None:
        return None
    law = PHYS_LAWS[task.scene.motion]
    return View("", law, "", (drawn * 255).round().astype(np.uint8), float(FPS), 0.5)


def motion_scores(task: Drawing) -> list[float] | None:
    """Scores by `VERIFIERS`, NaN where there is none."""
    view = view_of(task)
    if view is None:
        return None
    scores = [verifier.judge([view], ModelPool())[0].score for verifier in VERIFIERS]
    return [np.nan if score is None else score for score in scores]


def motion_words(task: Drawing) -> str:
    """The motion of a drawn video in words."""
    view = view_of(task)
    return view.motion_words if view is not None else ""


class Measurement:
    """The parts, with what they share."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Draws the held-out scenes."""
        self.args, self.workers, self.figures = args, Workers(), Figures(vars(args))
        self.scenes = sample_scenes(args.scenes, args.seed, "heldout")

    def _drawings(self, scenes: list[Scene], broken: str = "", first: int = 0) -> list[Drawing]:
        return [Drawing(scene, self.args.seed + first + number, broken) for number, scene in enumerate(scenes)]

    def broken(self) -> None:
        """Scores of true and broken clips; `lower` is the share of pairs in which the broken one scores lower."""
        true = self._scores("")
        for kind in ("", *DEGENERATE):
            scores = self._scores(kind) if kind else true
            for number, verifier in enumerate(VERIFIERS):
                mine = scores[:, number]
                both = np.isfinite(mine) & np.isfinite(true[:, number])
                lower = (
                    {"lower": round(float(np.mean(mine[both] < true[both, number])), 3)} if kind and both.any() else {}
                )
                known = mine[np.isfinite(mine)]
                name = f"{verifier.name}: {kind or 'true'}"
                if len(known):
                    self.figures.note(name, known, **lower)
                else:
                    print(f"{name}: no score, nothing moves", flush=True)

    def _scores(self, kind: str) -> NDArray[np.float64]:
        """Scores by scene and verifier, NaN where there is none or nothing to break."""
        found = self.workers(motion_scores, self._drawings(self.scenes, kind))
        return np.array([[np.nan] * len(VERIFIERS) if item is None else item for item in found])

    def words(self) -> None:
        """How often the nearest neighbour by the words' embedding, among training scenes, has the same motion."""
        known = sample_scenes(self.args.known, self.args.seed + 1, "train")
        embedder = SentenceEmbedder("all-minilm-l6-v2")
        embedder.load()
        said = self.workers(motion_words, self._drawings(self.scenes))
        there = embedder.encode(self.workers(motion_words, self._drawings(known, first=len(self.scenes))))
        nearest = (embedder.encode(said) @ there.T).argmax(axis=1)
        right = [known[place].motion == scene.motion for place, scene in zip(nearest, self.scenes, strict=True)]
        lengths = [len(text.split()) for text in said]
        self.figures.note("motion_named_by_words", right, words=round(float(np.mean(lengths)), 1), most=max(lengths))
        moves = [scene.motion not in ("rest", "beside") for scene in self.scenes]
        self.figures.note("motion_named_by_words, where something moves", np.array(right)[moves])

    def physics(self) -> None:
        """The grade under a clip's own law, under another motion's, and how often the first is the higher one."""
        rng = np.random.default_rng(self.args.seed)
        laws = list(PHYS_LAWS.values())
        views = [view for view in self.workers(view_of, self._drawings(self.scenes)) if view is not None]
        steps = rng.integers(1, len(laws), len(views))
        others = [laws[(laws.index(view.phys_law) + step) % len(laws)] for view, step in zip(views, steps, strict=True)]
        models = ModelPool(language=TransformersLanguageModel(self.args.language_model, batch_size=16))
        swapped = [View("", law, "", view.frames, view.fps, 0.5) for view, law in zip(views, others, strict=True)]
        own, other = (
            np.array([np.nan if item.score is None else item.score for item in Physics().judge(chosen, models)])
            for chosen in (views, swapped)
        )
        both = np.isfinite(own) & np.isfinite(other)
        self.figures.note("physics: own law", own[both], unscored=int((~both).sum()))
        self.figures.note("physics: another law", other[both])
        wins = (own[both] > other[both]) + 0.5 * (own[both] == other[both])
        self.figures.note("physics: own law graded higher", wins)


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--scenes", type=int, default=400, help="held-out scenes")
    parser.add_argument("--known", type=int, default=400, help="training scenes that words are looked up among")
    parser.add_argument("--language-model", default="smollm2-135m-instruct", help="who grades the physics")
    parser.add_argument("--seed", type=int, default=0)
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
