"""The lab's oracle as a verifier of the loop and as the metric of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2
import numpy as np
from numpy.typing import NDArray

from ..models import ModelPool
from ..verifiers import Judgement, View
from ..verifiers.usable import unreadable
from .labels import read_labels
from .oracle import judge_bytes
from .world import FRAME_SIZE


class LabOracle:
    """Share of what the user asked for that the frames show, and a sentence for each thing that is missing.

    Stands where a vision-language model stands with a real video model.
    """

    name = "lab_oracle"

    def __init__(self, workers: int = 0, asked: str = "") -> None:
        """Chooses where videos are read, and which requests are not.

        Args:
            workers: Processes; 0 reads in this one.
            asked: CSV with the columns `prompt` and `asked`, what these requests ask for by their author
                (`labels.parse_asked`); all others are read.

        Raises:
            UserError: If the file is missing or an entry is wrong.
        """
        self.workers = workers
        self._labels = read_labels(asked)
        self._pool: ProcessPoolExecutor | None = None

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        """One judgement per video."""
        faults = [unreadable(view.frames) or _other_size(view.frames) for view in views]
        tasks = [
            (view.source_prompt, view.frames, self._labels.get(view.source_prompt.strip()))
            for view, fault in zip(views, faults, strict=True)
            if not fault
        ]
        judged = iter(self._judge(tasks))
        return [Judgement(None, fault) if fault else next(judged) for fault in faults]

    def _judge(self, tasks: list[tuple[str, NDArray[np.uint8], dict[str, str] | None]]) -> list[Judgement]:
        if not self.workers:
            return [Judgement(*judge_bytes(task)) for task in tasks]
        if self._pool is None:
            # Not forked: this process may hold a CUDA context, which does not survive a fork.
            # Each process would else start a thread for every core.
            self._pool = ProcessPoolExecutor(self.workers, get_context("spawn"), _one_thread)
        return [Judgement(*result) for result in self._pool.map(judge_bytes, tasks, chunksize=4)]


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _other_size(frames: NDArray[np.uint8]) -> str:
    height, width = frames.shape[1:3]
    if height == width == FRAME_SIZE:
        return ""
    return f"The lab's oracle reads frames of {FRAME_SIZE} x {FRAME_SIZE} pixels. Got {width} x {height}."
