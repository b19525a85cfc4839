"""Text-to-video models behind a server that speaks the `/v1/videos` contract (vLLM-Omni, SGLang-Diffusion)."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..console import say
from ..errors import RunError, UserError
from .kept_videos import KeptVideos
from .server import checked_key_variable, checked_urls
from .server_reply import Failure
from .server_rotation import Rotation, Server, all_or_stop, barred_sentence, read_key
from .video_jobs import BodyFormat, JobError, VideoJobs
from .video_server_checks import check_servers, check_still_there

_RESERVED = ("model", "prompt", "seed", "width", "height", "size", "num_frames", "fps", "num_inference_steps",
             "guidance_scale", "n")  # fmt: skip
_MOST_IN_A_ROW = 8
"""Videos in a row that may fail, in calls that made none, before the server is at fault and not they (ours)."""


class VideoServer:
    """A text-to-video model behind one or several servers.

    Each video is a job of its own: created, looked at until it is done, downloaded, then removed there. Jobs in flight and videos
    that came are kept on disk until the call has all of its videos: after a kill no finished job is made again.
    """

    remote = True
    """Nothing of it is on the device, so nothing has to make room for it."""

    def __init__(
        self,
        url: str | list[str],
        model: str,
        width: int,
        height: int,
        num_frames: int,
        num_inference_steps: int,
        guidance_scale: float,
        fps: float = 16.0,
        fields: dict[str, Any] | None = None,
        body: BodyFormat = "form",
        key_variable: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        timeout: float = 120.0,
        job_timeout: float = 7200.0,
        retries: int = 5,
    ) -> None:
        """Checks the arguments; the server is asked whether it is there when the model is loaded.

        All that decides a video has to be named, since servers have other defaults: vLLM-Omni's is one frame.

        Args:
            url: Base URL of the server, such as http://localhost:8000/v1, or several that serve the same model: they get jobs in
                turn, and one that does not answer is left out for a while.
            model: Name of the model there.
            width: Width of a video in pixels.
            height: Its height.
            num_frames: Its frames.
            num_inference_steps: Denoising steps.
            guidance_scale: Strength of guidance.
            fps: Frames per second.
            fields: Further fields of every job, such as `{negative_prompt: ..., flow_shift: 8.0}`; null sends nothing.
            body: How fields are sent: `form` to vLLM-Omni, `json` to SGLang-Diffusion.
            key_variable: Environment variable with the key; a server of your own may need none.
            concurrency: Most jobs at a time, over all servers; a call of the loop asks for as many videos.
            timeout: Seconds without a byte of an answer after which a request has failed.
            job_timeout: Seconds from a job's creation to its video, waiting for its turn included.
            retries: Further tries of a video that failed for a reason that can pass.

        Raises:
            UserError: If an argument is out of range or of another form.
        """
        self._urls, self._body = checked_urls([url] if isinstance(url, str) else url), body
        settings = {
            "width": width, "height": height, "num_frames": num_frames, "num_inference_steps": num_inference_steps, "fps": fps,
        }  # fmt: skip
        running = {"concurrency": concurrency, "timeout": timeout, "job_timeout": job_timeout, "retries": retries + 1}
        _check_positive({**settings, **running})
        self.name, self.fps, self.retries, self.timeout, self.job_timeout = model, fps, retries, timeout, job_timeout
        self.batch_size = self.concurrency = concurrency
        self.key_variable = checked_key_variable(key_variable)
        self._fields = _job_fields({"model": model, **settings, "guidance_scale": guidance_scale}, fields or {})
        self._kept = KeptVideos(self._fields)
        self._rotation: Rotation | None = None
        self._key, self._in_a_row = "", 0

    @property
    def rotation(self) -> Rotation:
        """The servers; they are asked whether they are there when this is first used."""
        if self._rotation is None:
            self._key = read_key(self.key_variable)
            jobs = [VideoJobs(url, self._key, self.timeout, self._body) for url in self._urls]
            rotation = Rotation([Server(item.url, item) for item in jobs])
            check_servers(rotation, self.name, self.timeout, self.key_variable, self._key)
            self._rotation = rotation
        return self._rotation

    def load(self) -> None:
        """Asks the servers whether they are there, once.

        Raises:
            UserError: If none is, or one refuses the key or serves other models.
        """
        _ = self.rotation

    def to(self, device: torch.device) -> None:
        """As `load`: nothing is on a device."""
        self.load()

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """One video per prompt, see `base.VideoModel`; no frames where a video failed for good.

        Raises:
            RunError: If all would fail: no server answers any more, none has room, the key or the model is wrong, or the very
                first jobs, or many in a row, come to nothing.
        """
        self.load()
        self._kept.folder.mkdir(parents=True, exist_ok=True)
        keys = [self._kept.key(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        wanted = dict(zip(keys, zip(prompts, seeds, strict=True), strict=True))
        missing = [key for key in wanted if not self._kept.has(key)]
        failures = all_or_stop([partial(self._make, key, *wanted[key]) for key in missing], self.concurrency)
        failed = {key: failure for key, failure in zip(missing, failures, strict=True) if failure is not None}
        self._tell(list(failed.values()), len(missing))
        return self._kept.take(keys, failed)

    def _make(self, key: str, prompt: str, seed: int, stop: threading.Event) -> Failure | None:
        """Makes a video, and keeps it; why it could not be made, if so."""
        attempt, rotation = 0, self.rotation
        while True:
            server = rotation.next()
            try:
                server = self._try(server, key, prompt, seed, stop, goes_on=not attempt)
                server.answers = True
                return None
            except JobError as error:
                failure = error.failure
            if failure.kind == "barred":
                raise RunError(barred_sentence(server.url, self.name, failure, self.key_variable, self._key))
            last = failure.kind == "refused" or attempt == self.retries
            if last or stop.wait(rotation.pause(server, failure, attempt)):
                if not stop.is_set():
                    check_still_there(rotation, self.name, self.timeout, failure, attempt + 1)
                    self._note(key).unlink(missing_ok=True)
                return failure
            attempt += 1

    def _try(self, server: Server, key: str, prompt: str, seed: int, stop: threading.Event, goes_on: bool) -> Server:
        """One job, or the one that was in flight when an earlier run ended; who made it."""
        note, name = self._note(key), ""
        if goes_on:
            with suppress(OSError, ValueError, KeyError, StopIteration):
                flight = json.loads(note.read_text(encoding="utf-8"))
                server = next(item for item in self.rotation.servers if item.url == flight["url"])
                name = str(flight["id"])
        jobs: VideoJobs = server.client
        if not name:
            name = jobs.create({**self._fields, "prompt": prompt, "seed": int(seed)})
            note.write_text(json.dumps({"url": server.url, "id": name}), encoding="utf-8")
        jobs.wait(name, self.job_timeout, stop.wait)
        part = self._kept.folder / f"{key}.part"
        try:
            jobs.download(name, part)
            fault = self._kept.put(key, part)
        finally:
            part.unlink(missing_ok=True)
        if fault:
            raise JobError(Failure("broken", f"half a video: {fault.rstrip('.')}"))
        note.unlink(missing_ok=True)
        jobs.forget(name)
        return server

    def _note(self, key: str) -> Path:
        """Where the job of a video stands while it is in flight."""
        return self._kept.folder / f"{key}.job"

    def _tell(self, failures: Sequence[Failure], count: int) -> None:
        """Says what failed, or raises where that is no single video's fault."""
        if len(failures) < count:
            # On disk, so that one video which alone is left, and fails, does not look like a server that never made one.
            self._kept.made.touch()
            self._in_a_row = 0
        elif failures:
            self._in_a_row += count
        if failures and not self._kept.made.is_file():
            raise RunError(
                f"The first videos of {self.name} at {self.rotation.places} must be made. Got {failures[0].remark}; correct the "
                "model's settings or `fields`, or look at the server, and run the same command again to go on."
            )
        if self._in_a_row >= _MOST_IN_A_ROW:
            raise RunError(
                f"{self.name} at {self.rotation.places} must make videos. Got {self._in_a_row} in a row that failed, the last with "
                f"{failures[-1].remark}; what was made is safe: look at the server, and run the same command again to go on."
            )
        if failures:
            say(f"{len(failures)} of {count} videos were not made: {failures[0].remark}", error=True)


def _check_positive(numbers: dict[str, float]) -> None:
    wrong = [name for name, value in numbers.items() if not value > 0]
    if wrong:
        raise UserError(f"A video server needs numbers above 0. Got another in {', '.join(wrong)}; correct it.")


def _job_fields(settings: dict[str, Any], further: dict[str, Any]) -> dict[str, Any]:
    """What every job is sent.

    Raises:
        UserError: If a further field is one of the settings.
    """
    reserved = [name for name in further if name in _RESERVED]
    if reserved:
        raise UserError(
            f"`fields` may set anything but {', '.join(_RESERVED)}. Got {', '.join(reserved)}; leave it out."
        )
    # Servers read a whole number of frames per second.
    fps = int(settings["fps"]) if float(settings["fps"]).is_integer() else settings["fps"]
    size = f"{settings['width']}x{settings['height']}"
    return {
        **settings,
        "size": size,
        "fps": fps,
        **{name: value for name, value in further.items() if value is not None},
    }
