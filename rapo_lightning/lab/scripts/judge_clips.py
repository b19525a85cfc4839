"""Videos for the judge's training: rendered ones, broken ones, and lab-wan's own with what the oracle read in them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...console import say
from ..captions import CLOSINGS, OPENINGS, caption
from ..changing import SECOND, options, with_value
from ..degenerate import DEGENERATE
from ..oracle import Reading, read_video
from ..scene import Scene, sample_scene
from ..user_prompts import user_prompt
from ..world import DIRECTED_MOTIONS, DIRECTIONS, SINGLE_MOTIONS
from .judging import Drawing, Frames, Workers
from .videos import generate, load_pipeline

MADE_FRAMES, MADE_READINGS = "made.npy", "made.jsonl"
RAW_SHARE = STYLED_SHARE = 0.1
CHANGED_SHARE = 0.4
"""What lab-wan is given beside captions of the scene itself: raw requests, requests in the captions' frame, and captions of a
scene with one to three attributes changed, so that videos are right in part."""
BATCH = 256


@dataclass(frozen=True)
class Clip:
    """A video with what is known of it.

    Attributes:
        frames: RGB, `(17, 64, 64, 3)`.
        scene: What it was to show.
        reading: What it shows.
    """

    frames: Frames
    scene: Scene
    reading: Reading


def _changed_once(scene: Scene, key: str, rng: np.random.Generator) -> Scene:
    if key == "motion":
        if len(scene.bodies) == 2:
            return scene
        motion = str(rng.choice(SINGLE_MOTIONS))
        return with_value(scene, key, motion, str(rng.choice(DIRECTIONS)) if motion in DIRECTED_MOTIONS else "")
    value = str(rng.choice(options(scene, key)))
    if key != "background" and rng.integers(len(scene.bodies)):
        key += SECOND
    return with_value(scene, key, value)


def changed(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene of the same split that differs in one to three attributes."""
    keys = ("shape", "colour", "size", "background", "motion")
    while True:
        other = scene
        for key in rng.permutation(keys)[: rng.integers(1, 4)]:
            other = _changed_once(other, str(key), rng)
        alike = len(other.bodies) == 2 and other.bodies[0].colour == other.bodies[1].colour
        if other != scene and other.split == scene.split and not alike:
            return other


def rendered(scene: Scene, rng: np.random.Generator) -> Clip:
    """A true video; it is read as its scene without a fault (docs/lab.md has the check)."""
    frames = Drawing(scene, int(rng.integers(2**62))).frames()
    assert frames is not None
    return Clip(_bytes(frames), scene, Reading(scene.attributes, 0.0, len(scene.bodies), ()))


def broken(scene: Scene, rng: np.random.Generator) -> Clip | None:
    """A video broken in one of the ways of `degenerate`; None where that way would break nothing."""
    frames = Drawing(scene, int(rng.integers(2**62)), str(rng.choice(list(DEGENERATE)))).frames()
    return None if frames is None else Clip(_bytes(frames), scene, read_video(frames))


def _bytes(frames: NDArray[np.float32]) -> Frames:
    return (frames * 255).round().astype(np.uint8)


def read_bytes(frames: Frames) -> Reading:
    """What the oracle reads in a video in 8 bit."""
    return read_video((frames / 255).astype(np.float32))


def given_text(scene: Scene, request: str, rng: np.random.Generator) -> str:
    """What lab-wan is given for a scene and a request."""
    draw = rng.random()
    if draw < RAW_SHARE:
        return request
    if draw < RAW_SHARE + STYLED_SHARE:
        return f"{OPENINGS[0]} {request}. {CLOSINGS['moving']}"
    return caption(changed(scene, rng) if draw < RAW_SHARE + STYLED_SHARE + CHANGED_SHARE else scene, rng)


class MadeClips:
    """lab-wan's videos of training scenes, on disk.

    Attributes:
        folder: Where they lie.
        frames: `(count, 17, 64, 64, 3)`, a memory map.
        scenes: What each was to show.
        readings: What each shows.
    """

    def __init__(self, folder: Path) -> None:
        """Opens what `make` wrote."""
        self.folder = folder
        self.frames = np.load(folder / MADE_FRAMES, mmap_mode="r")
        rows = [json.loads(line) for line in (folder / MADE_READINGS).read_text().splitlines()]
        self.scenes = [Scene.from_json(row["scene"]) for row in rows]
        self.readings = [Reading(**{**row["reading"], "faults": tuple(row["reading"]["faults"])}) for row in rows]

    def __reduce__(self) -> tuple[type[MadeClips], tuple[Path]]:
        """Worker processes open the files themselves: a memory map would be sent to them whole."""
        return MadeClips, (self.folder,)

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.readings)

    def clip(self, index: int) -> Clip:
        """One of them."""
        return Clip(np.array(self.frames[index]), self.scenes[index], self.readings[index])


def make(folder: Path, model: Path, count: int, seed: int, steps: int, workers: Workers) -> MadeClips:
    """Lets lab-wan make videos of training scenes and reads them; what is there already is taken.

    Args:
        folder: Where they are kept.
        model: lab-wan's folder.
        count: How many.
        seed: Seed of the scenes and videos.
        steps: Denoising steps.
        workers: What reads them.
    """
    if not (folder / MADE_READINGS).is_file():
        rng = np.random.default_rng(seed)
        scenes = [sample_scene(rng, "train") for _ in range(count)]
        texts = [given_text(scene, user_prompt(scene, rng), rng) for scene in scenes]
        frames, _ = generate(load_pipeline(model), texts, seed, steps, 3.0, BATCH, own_noise=True)
        readings = workers(read_bytes, frames)
        np.save(folder / MADE_FRAMES, frames)
        rows = [{"scene": s.to_json(), "reading": asdict(r)} for s, r in zip(scenes, readings, strict=True)]
        (folder / MADE_READINGS).write_text("".join(json.dumps(row) + "\n" for row in rows))
        faulty = np.mean([bool(reading.faults) for reading in readings])
        say(f"lab-wan made {count} videos, {faulty:.0%} with a fault")
    return MadeClips(folder)
