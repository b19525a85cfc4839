"""Writes videos beside the loop, in the background; they are never read back in the same run."""

from __future__ import annotations

import importlib.util
import logging
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_LOG = logging.getLogger(__name__)


def _write_h264(path: Path, frames: NDArray[np.uint8], fps: float) -> None:
    import imageio.v2 as imageio

    # Even sizes only, as H.264 wants them; quality 8 of 10 keeps small shapes sharp.
    with imageio.get_writer(path, format="FFMPEG", fps=fps, codec="libx264", quality=8, macro_block_size=2) as writer:  # type: ignore[arg-type]
        for frame in frames:
            writer.append_data(frame)  # type: ignore[attr-defined]


def _write_mpeg4(path: Path, frames: NDArray[np.uint8], fps: float) -> None:
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


class VideoWriter:
    """Writes mp4 files in one background thread.

    H.264 through imageio-ffmpeg where it is installed, so that browsers show them; else MPEG-4 through OpenCV.
    """

    def __init__(self, run_folder: Path) -> None:
        """Remembers the run folder; `video` columns are relative to it."""
        self.run_folder = run_folder
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._pending: list[Future[None]] = []
        self._encode = _write_h264
        if importlib.util.find_spec("imageio_ffmpeg") is None:
            self._encode = _write_mpeg4
            _LOG.warning("imageio-ffmpeg is not installed: videos are MPEG-4, which browsers may not show.")

    def write(self, prompt_id: str, round_: int, frames: NDArray[np.uint8], fps: float) -> str:
        """Queues a video and returns its path relative to the run folder."""
        relative = Path("videos") / prompt_id / f"{round_}.mp4"
        self._pending.append(self._pool.submit(self._write, self.run_folder / relative, frames, fps))
        return relative.as_posix()

    def _write(self, path: Path, frames: NDArray[np.uint8], fps: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.tmp.mp4")
        self._encode(temporary, frames, fps)
        os.replace(temporary, path)

    def flush(self) -> None:
        """Waits for the queue; a video that could not be written is logged, since its row is what counts."""
        for future in self._pending:
            error = future.exception()
            if error is not None:
                _LOG.warning("A video could not be written: %s", error)
        self._pending.clear()
