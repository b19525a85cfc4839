"""Draws the pictures of docs/lab.md: `python -m rapo_lightning.lab.scripts.pictures`.

One for each attribute, a row for each of its values: a rendered clip, and the clip that lab-wan makes of the training-style
caption. One of broken videos (`degenerate.png`), with what the oracle says of each.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from diffusers import WanPipeline
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..captions import caption
from ..degenerate import DEGENERATE
from ..oracle import Verdict, judge
from ..scene import Body, Scene
from ..world import (
    BACKGROUNDS,
    COLOURS,
    DIRECTED_MOTIONS,
    DIRECTIONS,
    DOUBLE_MOTIONS,
    FRAME_SIZE,
    MOTIONS,
    SHAPES,
    SIZES,
)
from .judging import Drawing
from .video_model_card import SHOWN_FRAMES
from .videos import generate, load_pipeline

Clip = NDArray[np.float32]
BROKEN_FRAMES = range(4, 13)
"""Frames of a broken video that are shown: in a row, or a change in every second frame could not be seen."""
VALUES = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "background": tuple(BACKGROUNDS),
    "motion": MOTIONS,
    "direction": DIRECTIONS,
}
BASES = {
    "shape": Scene((Body("square", "red", "large"),), "snow", "slide", "left_to_right"),
    "colour": Scene((Body("square", "red", "medium"),), "meadow", "roll", "right_to_left"),
    "size": Scene((Body("cross", "red", "medium"),), "meadow", "roll", "left_to_right"),
    "background": Scene((Body("triangle", "red", "medium"),), "snow", "circle"),
    "motion": Scene((Body("square", "cyan", "medium"),), "meadow", "rise"),
    "direction": Scene((Body("cross", "orange", "medium"),), "snow", "throw", "left_to_right"),
    "degenerate": Scene((Body("ball", "pink", "medium"),), "studio", "throw", "left_to_right"),
}
"""Scenes whose variants in one attribute are held out, or nearly are."""
_COSTS = {"size": 1.0, "direction": 1.0, "background": 2.0, "colour": 3.0, "shape": 4.0, "motion": 8.0}
"""What another value costs, least where it is least seen, when the nearest held-out scene is looked for."""
_SECOND = Body("ball", "red", "medium")
"""The other body of the motions that have two."""
LABEL = 190
"""Width in px of the labels."""
_SCALE, _GAP, _HEAD = 2, 10, 24
_LABEL_WIDTH = 28
"""Characters of a label's line."""


def _scenes(attribute: str, value: str) -> Iterator[Scene]:
    """All held-out scenes that have a value."""
    options = {**VALUES, attribute: (value,)}
    for background, motion, names in product(
        options["background"], options["motion"], product(*(options[key] for key in ("shape", "colour", "size")))
    ):
        body, others = Body(*names), (_SECOND,) if motion in DOUBLE_MOTIONS else ()
        # As in all scenes with two bodies: none is large, and their colours differ.
        if others and (body.size == "large" or body.colour == _SECOND.colour):
            continue
        if attribute == "direction" and motion not in DIRECTED_MOTIONS:
            continue
        for direction in options["direction"] if motion in DIRECTED_MOTIONS else ("",):
            scene = Scene((body, *others), background, motion, direction)
            if scene.split == "heldout":
                yield scene


def nearest_scene(attribute: str, value: str) -> Scene:
    """The held-out scene with a value that differs from the attribute's base as little as possible otherwise.

    Args:
        attribute: Key of `VALUES`.
        value: One of its values.
    """
    wanted = {**BASES[attribute].attributes, attribute: value}

    def cost(scene: Scene) -> float:
        found = scene.attributes
        return sum(price for key, price in _COSTS.items() if key in wanted and found.get(key) != wanted[key])

    return min(_scenes(attribute, value), key=cost)


def describe(scene: Scene) -> list[str]:
    """A scene in two or three short lines."""
    bodies = [f"{body.size} {body.colour} {body.shape}" for body in scene.bodies]
    moves = " ".join([scene.motion, *scene.direction.split("_")]).strip()
    return [*bodies, f"{moves}, {scene.background}"]


def say(verdict: Verdict) -> list[str]:
    """The score of a video and what is wrong with it, in short lines."""
    wrong = ", ".join(key for key, right in verdict.right.items() if not right)
    lines = ["no score" if verdict.score is None else f"score {verdict.score:.2f}"]
    lines += textwrap.wrap(f"wrong: {wrong}", _LABEL_WIDTH) if wrong else []
    lines += textwrap.wrap(f"faults: {', '.join(verdict.faults)}", _LABEL_WIDTH) if verdict.faults else []
    return lines


def _true_clip(scene: Scene, seed: int, broken: str = "") -> Clip | None:
    return Drawing(scene, seed, broken).frames()


def _enlarged(clip: Clip) -> Image.Image:
    """Frames side by side, twice enlarged, with a white line between."""
    line = np.ones((FRAME_SIZE, 1, 3), np.float32)
    strip = np.concatenate([part for frame in clip for part in (frame, line)][:-1], axis=1)
    image = Image.fromarray((strip * 255).round().astype(np.uint8))
    return image.resize((image.width * _SCALE, image.height * _SCALE), Image.Resampling.NEAREST)


class Sheet:
    """A picture of labelled rows."""

    def __init__(self, head: Sequence[str], label: int = LABEL) -> None:
        """Takes the heads of the columns, and the width of the labels in px."""
        self.head, self.label, self.rows = list(head), label, list[tuple[list[str], list[Image.Image]]]()

    def add(self, label: list[str], clips: list[Clip]) -> None:
        """A row: lines of text, the first one larger, and frames in 0..1, each `(frames, 64, 64, 3)`."""
        self.rows.append((label, [_enlarged(clip) for clip in clips]))

    def draw(self) -> Image.Image:
        """The picture."""
        starts = [self.label + column * (self.rows[0][1][0].width + _GAP) for column in range(len(self.head) + 1)]
        height = FRAME_SIZE * _SCALE + _GAP // 2
        image = Image.new("RGB", (starts[-1] - _GAP, _HEAD + height * len(self.rows)), "white")
        pen, title, small = ImageDraw.Draw(image), ImageFont.load_default(size=17), ImageFont.load_default(size=13)
        for start, text in zip(starts, self.head, strict=False):
            pen.text((start, 3), text, "black", font=small)
        for number, (label, strips) in enumerate(self.rows):
            top = _HEAD + number * height
            pen.text((6, top + 2), label[0], "black", font=title)
            pen.multiline_text((6, top + 27), "\n".join(label[1:]), "#444444", font=small)
            for start, strip in zip(starts, strips, strict=False):
                image.paste(strip, (start, top))
        return image

    def save(self, path: Path) -> None:
        """Writes a PNG of 256 colours, which are chosen so that rare ones keep theirs."""
        colours = self.draw().quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        colours.save(path, optimize=True)
        print(f"{path}: {path.stat().st_size:,} bytes, {len(self.rows)} rows", flush=True)


def draw_attribute(attribute: str, pipeline: WanPipeline, steps: int, guidance: float, seed: int) -> Sheet:
    """Rendered and generated clips for each value of an attribute, all of held-out scenes.

    Args:
        attribute: Key of `VALUES`.
        pipeline: lab-wan.
        steps: Steps of the sampler.
        guidance: Scale of the guidance.
        seed: Seed of the renderer's variation, of the captions' wording and of the noise.
    """
    scenes = [nearest_scene(attribute, value) for value in VALUES[attribute]]
    captions = [caption(scene, np.random.default_rng(seed)) for scene in scenes]
    videos, _ = generate(pipeline, captions, seed, steps, guidance, batch=8)
    shown = " ".join(map(str, SHOWN_FRAMES))
    sheet = Sheet([f"rendered, frames {shown}", "generated by lab-wan from the caption, same frames"])
    for value, scene, text, video in zip(VALUES[attribute], scenes, captions, videos, strict=True):
        true, made = _true_clip(scene, seed), (video / 255).astype(np.float32)
        assert true is not None
        sheet.add(
            [value, *describe(scene), *say(judge(text, made))], [true[list(SHOWN_FRAMES)], made[list(SHOWN_FRAMES)]]
        )
    return sheet


def draw_degenerate(seed: int) -> Sheet:
    """Broken videos of one scene and what the oracle says of each, the true one first."""
    scene, sheet = BASES["degenerate"], Sheet([f"frames {BROKEN_FRAMES.start} to {BROKEN_FRAMES.stop - 1}"])
    text = caption(scene, np.random.default_rng(seed))
    for name in ("", *DEGENERATE):
        clip = _true_clip(scene, seed, name)
        assert clip is not None
        sheet.add([name.replace("_", " ") or "true video", *say(judge(text, clip))], [clip[list(BROKEN_FRAMES)]])
    return sheet


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("ckpt/lab/video_model"), help="diffusers folder")
    parser.add_argument("--out", type=Path, default=Path("docs/lab"), help="folder to write to")
    parser.add_argument("--pictures", nargs="+", choices=list(BASES), default=list(BASES), help="what to draw")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(args.model)
    for name in args.pictures:
        if name == "degenerate":
            sheet = draw_degenerate(args.seed)
        else:
            sheet = draw_attribute(name, pipeline, args.steps, args.guidance, args.seed)
        sheet.save(args.out / f"{name}.png")


if __name__ == "__main__":
    main()
