"""Videos that an outside engine has made, kept until somebody has their frames: a kill or a failure loses none of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.manifest import cache_folder
from ..data.videos import Frames, examine_video
from ..errors import RunError


class KeptVideos:
    """A folder of the cache with whole videos, named by what they were made of.

    Processes that make videos by the same settings share it; each has other prompts or seeds.
    """

    def __init__(self, settings: Any) -> None:
        """Makes nothing yet.

        Args:
            settings: What decides a video beside its prompt and seed; other settings have another folder.
        """
        self.folder = cache_folder() / "videos" / _short(settings)

    def key(self, prompt: str, seed: int) -> str:
        """Name of a video in the folder."""
        return _short([prompt, int(seed)])

    def path(self, key: str) -> Path:
        """Where a video lies once it is whole."""
        return self.folder / f"{key}.mp4"

    def has(self, key: str) -> bool:
        """Whether a video is there; what is there was whole when it came."""
        return self.path(key).is_file()

    @property
    def made(self) -> Path:
        """A file that says, where it is, that a video was made by these settings once."""
        return self.folder / "made"

    def put(self, key: str, source: Path) -> str:
        """Takes a file over if it is a whole video.

        Args:
            key: Its name.
            source: The file, on the same disk; left where it is if something is wrong with it.

        Returns:
            What is wrong with it, a sentence; empty if nothing is.
        """
        _, fault = examine_video(source)
        if not fault:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.replace(source, self.path(key))
        return fault

    def take(self, keys: Sequence[str], absent: Collection[str] = ()) -> list[Frames]:
        """Frames of videos, which are then forgotten.

        Args:
            keys: Their names.
            absent: Those that could not be made; they have no frames (`usable.NOT_MADE`).

        Raises:
            RunError: If another is not there any more.
        """
        frames = [examine_video(self.path(key))[0] for key in keys]
        lost = [key for key, video in zip(keys, frames, strict=True) if not len(video) and key not in absent]
        if lost:
            raise RunError(
                f"A video must stay until it is read. Got {self.path(lost[0])} removed meanwhile, as by a second run that makes the "
                "same videos; run the same command again to go on."
            )
        for key in keys:
            self.path(key).unlink(missing_ok=True)
        return frames


def _short(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
