"""Videos on disk: mp4 files for people, and the frames themselves until everything has looked at them."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import RunError

_LOG = logging.getLogger(__name__)
_UNKNOWN_RATE = 8.0
Frames = NDArray[np.uint8]
"""RGB, `(frames, height, width, 3)`."""


def _write_h264(path: Path, frames: Frames, fps: float) -> None:
    import imageio.v2 as imageio

    # Even sizes only, as H.264 wants them; quality 8 of 10 keeps small shapes sharp.
    with imageio.get_writer(path, format="FFMPEG", fps=fps, codec="libx264", quality=8, macro_block_size=2) as writer:  # type: ignore[arg-type]
        for frame in frames:
            writer.append_data(frame)  # type: ignore[attr-defined]


def _write_mpeg4(path: Path, frames: Frames, fps: float) -> None:
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def _encoder() -> Callable[[Path, Frames, float], None]:
    return _write_h264 if importlib.util.find_spec("imageio_ffmpeg") else _write_mpeg4


@cache
def _warn_of_mpeg4() -> None:
    _LOG.warning("imageio-ffmpeg is not installed: videos are MPEG-4, which browsers may not show.")


def count_frames(path: Path) -> int:
    """Number of frames of a video file, 0 if it cannot be opened (a file cut off by a full disk cannot)."""
    capture = cv2.VideoCapture(str(path))
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()


def frame_rate(path: Path) -> float:
    """Frames per second of a video file; 8 where it does not say."""
    capture = cv2.VideoCapture(str(path))
    try:
        rate = float(capture.get(cv2.CAP_PROP_FPS)) if capture.isOpened() else 0.0
    finally:
        capture.release()
    return rate if 0 < rate < 1000 else _UNKNOWN_RATE


def read_video(path: Path) -> Frames:
    """Frames of a video file.

    Raises:
        RunError: If it holds none.
    """
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            break
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    if not frames:
        raise RunError(f"The video {path} cannot be read. Got no frame from it; delete it, and it is made again.")
    return np.stack(frames).astype(np.uint8)


def examine_video(path: Path) -> tuple[Frames, str]:
    """Frames of a file that may be damaged, and a sentence on what is wrong with it, empty if nothing is."""
    try:
        frames = read_video(path)
    except RunError:
        return np.empty((0, 0, 0, 3), np.uint8), "The video cannot be read: there is no frame in it."
    promised = count_frames(path)
    cut = promised > len(frames)
    return frames, f"The video is cut off after {len(frames)} of {promised} frames." if cut else ""


def video_path(prompt_id: str, round_: int, key: str) -> str:
    """Where a video lies in its run folder; the key keeps recipes and seeds apart."""
    return f"videos/{prompt_id}/{round_}-{key[:8]}.mp4"


class VideoStore:
    """The videos of a run folder.

    mp4 files are H.264 through imageio-ffmpeg where it is installed, so that browsers show them; else MPEG-4 through
    OpenCV. They are encoded by one background thread and never read back by the run that wrote them: what still has to
    be judged after a kill is read from `pending/`, where the frames lie without loss until they were judged.
    """

    def __init__(self, run_folder: Path) -> None:
        """Remembers the run folder; paths of videos are relative to it."""
        self.run_folder, self.pending = run_folder, run_folder / "pending"
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._futures: list[Future[None]] = []
        self._encode = _encoder()

    def keep(self, key: str, frames: Frames) -> None:
        """Puts the frames of a generation aside, without loss.

        Raises:
            RunError: If they cannot be written.
        """
        path = self.pending / f"{key}.npy"
        temporary = path.with_suffix(".tmp")
        try:
            self.pending.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.save(file, frames)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _unwritable(path, str(error.strerror or error)) from error

    def kept(self, key: str) -> Frames | None:
        """Frames that were put aside, or None."""
        path = self.pending / f"{key}.npy"
        if not path.is_file():
            return None
        try:
            return np.load(path)  # type: ignore[no-any-return]
        except (ValueError, EOFError, OSError):
            return None

    def drop(self, key: str) -> None:
        """Forgets frames that nobody needs any more."""
        (self.pending / f"{key}.npy").unlink(missing_ok=True)

    def clean(self) -> None:
        """Removes what a kill left half-written, and the folder of frames put aside once it is empty."""
        if self.pending.is_dir():
            for path in self.pending.glob("*.tmp"):
                path.unlink(missing_ok=True)
            # Not empty, or gone already where another process was faster.
            with suppress(OSError):
                self.pending.rmdir()
        for path in self.run_folder.glob("videos/*/.*.tmp.mp4"):
            path.unlink(missing_ok=True)

    def write(self, relative: str, frames: Frames, fps: float, then: Callable[[], None]) -> None:
        """Queues a video.

        Args:
            relative: Its path in the run folder.
            frames: The frames.
            fps: Frames per second.
            then: Called in the background once the file is whole and in its place.
        """
        if self._encode is _write_mpeg4:
            _warn_of_mpeg4()
        self._futures.append(self._pool.submit(self._write, self.run_folder / relative, frames, fps, then))

    def _write(self, path: Path, frames: Frames, fps: float, then: Callable[[], None]) -> None:
        temporary = path.with_name(f".{path.stem}.tmp.mp4")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._encode(temporary, frames, fps)
            # The encoder is a program of its own: a full disk ends it without an error here.
            found = count_frames(temporary)
            if found != len(frames):
                raise _unwritable(path, f"{found} of {len(frames)} frames arrived, which a full disk does")
            os.replace(temporary, path)
        except OSError as error:
            raise _unwritable(path, str(error.strerror or error)) from error
        finally:
            temporary.unlink(missing_ok=True)
        then()

    def copy(self, relative: str, source: Path) -> None:
        """Copies a video from elsewhere, byte for byte.

        Args:
            relative: Its path in the run folder.
            source: The file.

        Raises:
            RunError: If it cannot be written.
        """
        target = self.run_folder / relative
        temporary = target.with_name(f".{target.stem}.tmp.mp4")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, temporary)
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _unwritable(target, str(error.strerror or error)) from error

    def is_whole(self, relative: str, size: int) -> bool:
        """Whether a video is there with as many bytes as it was written with."""
        path = self.run_folder / relative
        return path.is_file() and path.stat().st_size == size

    def size(self, relative: str) -> int:
        """Bytes of a video."""
        return (self.run_folder / relative).stat().st_size

    def flush(self) -> None:
        """Waits for the queue.

        Raises:
            RunError: If a video could not be written.
        """
        futures, self._futures = self._futures, []
        for future in futures:
            future.result()


def _unwritable(path: Path, reason: str) -> RunError:
    return RunError(
        f"The video {path} cannot be written: {reason}. What was written before is safe; make room or choose another "
        "`--out`, and run the same command again to go on."
    )
