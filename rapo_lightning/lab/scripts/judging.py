"""Draws, reads and judges many lab videos in worker processes, for the measuring script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..damage import HARSH, MILD
from ..degenerate import degenerate
from ..oracle import Verdict, judge, read_video
from ..render import render_batch
from ..scene import Scene

Frames = NDArray[np.uint8]
Task = TypeVar("Task")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Drawing:
    """A video that a worker draws by itself.

    Attributes:
        scene: What it shows.
        seed: Seed of the scene's variation.
        broken: Key of `degenerate.DEGENERATE`, empty for a true video.
        damage: Key of `damage.MILD` or `damage.HARSH`, empty for none.
        prompt: What it is judged against.
    """

    scene: Scene
    seed: int
    broken: str = ""
    damage: str = ""
    prompt: str = ""

    def frames(self) -> NDArray[np.float32] | None:
        """The video as the loop sees it, in 8 bit; None where there is nothing to break."""
        rng = np.random.default_rng(self.seed)
        if self.broken:
            drawn = degenerate(self.broken, self.scene, rng)
        else:
            drawn = render_batch([self.scene], rng)[0].permute(0, 2, 3, 1).numpy()
        if drawn is not None and self.damage:
            drawn = {**MILD, **HARSH}[self.damage](drawn)
        return None if drawn is None else ((drawn * 255).round() / 255).astype(np.float32)


def judge_drawing(task: Drawing) -> Verdict | None:
    """The verdict on a drawn video, None where there is none."""
    frames = task.frames()
    return None if frames is None else judge(task.prompt, frames)


def judge_frames(task: tuple[str, Frames]) -> Verdict:
    """The verdict on a video in 8 bit."""
    return judge(task[0], (task[1] / 255).astype(np.float32))


def reading_of(scene: Scene, frames: NDArray[np.float32]) -> dict[str, bool]:
    """Whether each attribute is read right, and whether the video has no fault (`faultless`)."""
    reading = read_video(frames)
    right = {key: reading.attributes.get(key) == value for key, value in scene.attributes.items()}
    return {**right, "faultless": not reading.faults, "all": reading.attributes == scene.attributes}


def read_drawing(task: Drawing) -> dict[str, bool]:
    """How well a true video is read."""
    frames = task.frames()
    assert frames is not None
    return reading_of(task.scene, frames)


def read_frames(task: tuple[Scene, Frames]) -> dict[str, bool]:
    """How well a video in 8 bit is read as its scene."""
    return reading_of(task[0], (task[1] / 255).astype(np.float32))


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


class Workers:
    """A pool of processes, one thread each."""

    def __init__(self, count: int | None = None) -> None:
        """Starts when it is first used; one process per core by default."""
        # Not forked: this process may hold a CUDA context, which does not survive a fork.
        self._pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_one_thread)

    def __call__(self, work: Callable[[Task], Answer], tasks: Iterable[Task]) -> list[Answer]:
        """The answers to all tasks, in order."""
        return list(self._pool.map(work, tasks, chunksize=8))

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown()


def shares(answers: Iterable[dict[str, bool]]) -> dict[str, float]:
    """Mean of each key over the answers that have it."""
    values: dict[str, list[bool]] = {}
    for answer in answers:
        for key, value in answer.items():
            values.setdefault(key, []).append(value)
    return {key: round(float(np.mean(found)), 4) for key, found in values.items()}


def fault_shares(verdicts: list[Verdict]) -> dict[str, float]:
    """Share of the videos that have each fault."""
    counts = Counter(fault for verdict in verdicts for fault in verdict.faults)
    return {fault: round(count / len(verdicts), 4) for fault, count in counts.most_common()}
