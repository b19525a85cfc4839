"""Generating and judging videos, each phase recorded at once: what a record has already is not made again."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

from ..data.records import Record, Records
from ..data.videos import Frames, VideoStore, read_video, video_path
from ..models import ModelPool, VideoModel
from ..models.phases import phase
from ..recipe.identity import digest
from ..running.interruption import INTERRUPTION
from ..verifiers import View
from ..verifiers.usable import NO_NUMBERS, unreadable
from .generation import generate_or_halve
from .judgements import Judge, Judging, Screened, Take

_LOG = logging.getLogger(__name__)


class Screening:
    """Makes and judges takes with borrowed models, in phases over all takes given.

    Generation is recorded by batches of the video model and judgement by verifier, so a kill loses at most the batch in
    flight. Frames stay in memory from the one to the other; after a kill they come from where they were put aside.
    """

    def __init__(
        self,
        models: ModelPool,
        judges: Sequence[Judge],
        video_identity: Any,
        records: Records,
        videos: VideoStore,
        flow_seconds: float,
        save_videos: bool,
        record_flow: bool = True,
        draft_call: Mapping[str, Any] | None = None,
    ) -> None:
        """Takes everything from outside.

        Args:
            models: Lends the video model, and verifiers their models.
            judges: The verifiers.
            video_identity: What decides a video beside its prompt and seed.
            records: Where phases are recorded.
            videos: Where videos go.
            flow_seconds: Time between two frames of the optical flow.
            save_videos: Whether to write an mp4 of each take.
            record_flow: Whether to measure and record the optical flow.
            draft_call: Arguments of the video model's call that a draft is made with instead of its own.
        """
        self.models, self.judges, self.video_identity = models, judges, video_identity
        self.records, self.videos, self.flow_seconds, self.save_videos = records, videos, flow_seconds, save_videos
        self._draft_call = dict(draft_call or {})
        self._judging = Judging(models, judges, records, flow_seconds, record_flow)
        self._views: dict[str, View] = {}
        # OpenCV releases the interpreter lock; two keep up with any video model.
        self._watchers = ThreadPoolExecutor(max_workers=2) if record_flow else None
        self._watched: list[Future[object]] = []

    def run(self, takes: Sequence[Take]) -> list[Screened]:
        """Brings takes to where each has its video and all judgements.

        Args:
            takes: The takes; those of equal text and seed share a video.

        Returns:
            What is known of each, in order.

        Raises:
            RunError: If something cannot be written, or the process was asked to end.
        """
        found = [Screened(self._key(take)) for take in takes]
        keys = [self._judging.keys(take, item.key) for take, item in zip(takes, found, strict=True)]
        unjudged = [index for index, names in enumerate(keys) if self._judging.lacks(names)]
        try:
            self._judge(takes, found, keys, self._frames(takes, found, unjudged))
        finally:
            # Whatever ends the phases, videos that were made are on disk and recorded.
            self.videos.flush()
            for watched in self._watched:
                # What is not begun would keep a process that was asked to end.
                watched.cancel()
            self._views.clear()
            self._watched.clear()
        for item, names in zip(found, keys, strict=True):
            self.videos.drop(item.key)
            item.generation = self.records.get("generations", item.key) or {}
            item.judgements = self._judging.found(names)
        return found

    def _key(self, take: Take) -> str:
        return digest([self.video_identity, take.text, take.seed, *([self._draft_call] if take.draft else [])])

    def _judge(
        self,
        takes: Sequence[Take],
        found: Sequence[Screened],
        keys: Sequence[dict[str, str]],
        frames: Mapping[str, Frames],
    ) -> None:
        with phase("flow"):
            for watched in self._watched:
                watched.result()

        def view_of(take: Take, item: Screened) -> View:
            """The view of a take; takes that share a video may be judged against other requests."""
            asked = take.prompt.text, take.prompt.phys_law, take.text
            view = self._views.get(item.key)
            if view is None:
                view = self._views[item.key] = View(*asked, frames[item.key], self.models.fps, self.flow_seconds)
            if (view.source_prompt, view.phys_law) == asked[:2]:
                return view
            return View(*asked, view.frames, view.fps, view.flow_seconds)

        self._judging.judge(takes, found, keys, view_of)

    def is_there(self, take: Take) -> bool:
        """Whether the video that a take should have on disk is there and whole; one that is unusable has none."""
        return not self.save_videos or not self._lacks_file(self._key(take))

    def _lacks_file(self, key: str) -> bool:
        record = self.records.get("generations", key)
        return not (record and (record.get("fault") or self._has_file(key)))

    def _has_file(self, key: str) -> bool:
        record = self.records.get("generations", key)
        return bool(record and record["video"] and self.videos.is_whole(record["video"], record["bytes"]))

    def _frames(self, takes: Sequence[Take], found: Sequence[Screened], unjudged: list[int]) -> dict[str, Frames]:
        """Frames of the takes that are not judged, made where they are nowhere; missing mp4 files are made as well."""
        frames: dict[str, Frames] = {}
        due: dict[str, Take] = {}
        unseen = {found[index].key for index in unjudged}
        for take, item in zip(takes, found, strict=True):
            has_file, key = self._has_file(item.key), item.key
            lacks_file = self.save_videos and self._lacks_file(key)
            if key in frames or key in due or not (key in unseen or lacks_file):
                continue
            kept = self.videos.kept(key)
            if kept is None and has_file:
                record = self.records.get("generations", key) or {}
                kept = read_video(self.videos.run_folder / record["video"])
            if kept is None:
                due[key] = take
                continue
            frames[key] = kept
            if lacks_file:
                self._store(key, take, kept, (self.records.get("generations", key) or {}).get("seconds", 0.0))
        drafts = {key: take for key, take in due.items() if take.draft}
        in_full = {key: take for key, take in due.items() if not take.draft}
        return {**frames, **self._generate(in_full, False), **self._generate(drafts, True)}

    def _generate(self, due: dict[str, Take], drafts: bool) -> dict[str, Frames]:
        """Makes videos, by batches of the video model."""
        frames: dict[str, Frames] = {}
        if not due:
            return frames
        model: VideoModel = self.models.video
        if drafts:
            model = self.models.draft(self._draft_call)
        left, prepare = list(due), getattr(model, "prepare", None)
        if prepare:
            # All prompts at once: where the text encoder has to make room for the rest, it comes and goes once.
            prepare([take.text for take in due.values()])
        while left:
            INTERRUPTION.check()
            start = time.monotonic()
            chunk = left[: max(1, model.batch_size)]
            made = generate_or_halve(model, [due[key].text for key in chunk], [due[key].seed for key in chunk])
            if made is None:
                continue
            seconds = (time.monotonic() - start) / len(chunk)
            for key, video in zip(chunk, made, strict=True):
                frames[key] = video
                self._keep(key, due[key], video, seconds)
                self._watch(key, due[key], video)
            left = left[len(chunk) :]
        return frames

    def _watch(self, key: str, take: Take, video: Frames) -> None:
        """Has a video's flow and motion measured while the next ones are made; the judges find them done."""
        if self._watchers is not None:
            asked = take.prompt.text, take.prompt.phys_law, take.text
            view = self._views[key] = View(*asked, video, self.models.fps, self.flow_seconds)
            self._watched.append(self._watchers.submit(lambda: (view.flow, view.motion)))

    def _keep(self, key: str, take: Take, video: Frames, seconds: float) -> None:
        """Puts a video aside and stores it, or records why it is none."""
        fault = unreadable(video)
        if not fault:
            self.videos.keep(key, video)
            self._store(key, take, video, seconds)
            return
        if fault == NO_NUMBERS:
            _warn_of_numbers()
        self.records.append("generations", [{**self._record(key, take, seconds), "frames": 0, "fault": fault}])

    def _record(self, key: str, take: Take, seconds: float) -> Record:
        record: Record = {"key": key, "prompt": take.text, "seed": take.seed, "video": "", "bytes": 0}
        shortcuts = self.models.draft(self._draft_call).shortcuts if take.draft else self.models.shortcuts
        record |= {"shortcuts": shortcuts} if shortcuts else {}
        return record | {"seconds": round(seconds, 4), "video_model": self.models.names["video_model"]}

    def _store(self, key: str, take: Take, video: Frames, seconds: float) -> None:
        """Records a generation: at once without an mp4, else when that is on disk."""
        record = {**self._record(key, take, seconds), "frames": len(video)}
        if not self.save_videos:
            if self.records.get("generations", key) is None:
                self.records.append("generations", [record])
            return
        path = video_path(take.prompt.id, take.round, key)

        def done() -> None:
            self.records.append("generations", [{**record, "video": path, "bytes": self.videos.size(path)}])

        self.videos.write(path, video, self.models.fps, done)


@cache
def _warn_of_numbers() -> None:
    _LOG.warning(
        "The video model gives pixels that are no numbers: such videos are recorded without one. If there are many, set its "
        "`dtype` to `bfloat16` or `float32` (float16 overflows in many models), or its `vae_dtype` to `float32`."
    )
