"""The lab's oracle as a verifier of the loop and as the metric of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from ..models.protocols import Embedder
from ..stage2.verifiers import Judgement, View
from .oracle import judge


def _judge(task: tuple[str, NDArray[np.uint8]]) -> Judgement:
    prompt, frames = task
    verdict = judge(prompt, frames.astype(np.float32) / 255)
    return Judgement(verdict.score, verdict.critique)


class LabOracle:
    """Share of what the user asked for that the frames show, and a sentence for each thing that is missing.

    Stands where a vision-language model stands with a real video model.
    """

    name = "lab_oracle"

    def __init__(self, workers: int = 0) -> None:
        """Chooses where videos are read.

        Args:
            workers: Processes; 0 reads in this one.
        """
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def judge(self, views: Sequence[View], embedder: Embedder) -> list[Judgement]:
        """One judgement per video."""
        tasks = [(view.source_prompt, view.frames) for view in views]
        if not self.workers:
            return [_judge(task) for task in tasks]
        if self._pool is None:
            # Not forked: this process may hold a CUDA context, which does not survive a fork.
            self._pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"))
        return list(self._pool.map(_judge, tasks, chunksize=4))
