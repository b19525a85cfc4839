"""Generating and judging videos, each phase recorded at once: what a record has already is not made again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..data.prompts import Prompt
from ..data.records import Record, Records
from ..data.store import Row
from ..data.videos import Frames, VideoStore, read_video, video_path
from ..models import ModelPool
from ..models.usage import calls_by_item, metered
from ..recipe import Component
from ..recipe.identity import component_identity, digest, strip_layout, templates_identity
from ..running.interruption import INTERRUPTION
from ..verifiers import Verifier, View
from ..verifiers.flow import FLOW_VERSION

FLOW = "flow"
"""Stands for the optical flow among the judgements of a video."""


@dataclass(frozen=True)
class Take:
    """A video to be made and judged.

    Attributes:
        prompt: The user's prompt, which the video is judged against.
        text: What the video is made from.
        seed: Its seed.
        round: The round that it is first made for.
    """

    prompt: Prompt
    text: str
    seed: int
    round: int = 0


@dataclass
class Screened:
    """What is known of a take.

    Attributes:
        key: Identity of its video.
        generation: The record of its generation.
        judgements: The record of each judgement, by the verifier's name; `FLOW` is the optical flow.
    """

    key: str
    generation: Record = field(default_factory=dict)
    judgements: dict[str, Record] = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """A verifier with what decides its scores.

    Attributes:
        verifier: The verifier.
        components: What the recipe says of it, and of the models that it uses.
    """

    verifier: Verifier
    components: tuple[Component, ...]

    @cached_property
    def identity(self) -> str:
        """Hash of what decides its scores; read when first asked for, since weights may have to be fetched before."""
        return digest([templates_identity("verifiers"), *map(component_identity, self.components)])

    def scores_like(self, other: Judge) -> bool:
        """Whether the recipe says the same of both, but for what changes no score."""
        return bool(strip_layout(list(self.components)) == strip_layout(list(other.components)))


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
        """
        self.models, self.judges, self.video_identity = models, judges, video_identity
        self.records, self.videos, self.flow_seconds = records, videos, flow_seconds
        self.save_videos, self.record_flow = save_videos, record_flow

    def run(self, takes: Sequence[Take]) -> list[Screened]:
        """Brings takes to where each has its video and all judgements.

        Args:
            takes: The takes; those of equal text and seed share a video.

        Returns:
            What is known of each, in order.

        Raises:
            RunError: If something cannot be written, or the process was asked to end.
        """
        found = [Screened(digest([self.video_identity, take.text, take.seed])) for take in takes]
        keys = [self._judgement_keys(take, item.key) for take, item in zip(takes, found, strict=True)]
        unjudged = [i for i, names in enumerate(keys) if any(self._record(key) is None for key in names.values())]
        try:
            self._judge(takes, found, keys, self._frames(takes, found, unjudged))
        finally:
            # Whatever ends the phases, videos that were made are on disk and recorded.
            self.videos.flush()
        for item, names in zip(found, keys, strict=True):
            self.videos.drop(item.key)
            item.generation = self.records.get("generations", item.key) or {}
            item.judgements = {name: self._record(key) or {} for name, key in names.items()}
        return found

    def _record(self, key: str) -> Record | None:
        return self.records.get("judgements", key)

    def _judgement_keys(self, take: Take, key: str) -> dict[str, str]:
        """Key of each judgement of a take, by verifier."""
        subject = [key, take.prompt.text, take.prompt.phys_law, take.text, self.flow_seconds, FLOW_VERSION]
        names = {judge.verifier.name: digest([subject, judge.identity]) for judge in self.judges}
        return {**names, FLOW: digest([key, FLOW, self.flow_seconds, FLOW_VERSION])} if self.record_flow else names

    def is_there(self, take: Take) -> bool:
        """Whether the video that a take should have on disk is there and whole."""
        return not self.save_videos or self._has_file(digest([self.video_identity, take.text, take.seed]))

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
            lacks_file = self.save_videos and not has_file
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
        return {**frames, **self._generate(due)}

    def _generate(self, due: dict[str, Take]) -> dict[str, Frames]:
        """Makes videos, by batches of the video model."""
        frames: dict[str, Frames] = {}
        keys = list(due)
        size = max(1, self.models.video.batch_size) if keys else 1
        for begin in range(0, len(keys), size):
            INTERRUPTION.check()
            chunk = keys[begin : begin + size]
            start = time.monotonic()
            made = self.models.video.generate([due[key].text for key in chunk], [due[key].seed for key in chunk])
            seconds = (time.monotonic() - start) / len(chunk)
            for key, video in zip(chunk, made, strict=True):
                frames[key] = video
                self.videos.keep(key, video)
                self._store(key, due[key], video, seconds)
        return frames

    def _store(self, key: str, take: Take, video: Frames, seconds: float) -> None:
        """Records a generation: at once without an mp4, else when that is on disk."""
        record: Record = {"key": key, "prompt": take.text, "seed": take.seed, "video": "", "bytes": 0}
        record |= {"frames": len(video), "seconds": round(seconds, 4), "video_model": self.models.names["video_model"]}
        if not self.save_videos:
            if self.records.get("generations", key) is None:
                self.records.append("generations", [record])
            return
        path = video_path(take.prompt.id, take.round, key)

        def done() -> None:
            self.records.append("generations", [{**record, "video": path, "bytes": self.videos.size(path)}])

        self.videos.write(path, video, self.models.fps, done)

    def _judge(
        self,
        takes: Sequence[Take],
        found: Sequence[Screened],
        keys: Sequence[dict[str, str]],
        frames: dict[str, Frames],
    ) -> None:
        """Asks each verifier for the judgements that are not recorded, and measures the flow."""
        views = {
            item.key: View(take.prompt.text, take.prompt.phys_law, take.text, frames[item.key], self.models.fps, self.flow_seconds)
            for take, item in zip(takes, found, strict=True)
            if item.key in frames
        }  # fmt: skip
        if self.record_flow:
            self._measure_flow(found, keys, views)
        for judge in self.judges:
            INTERRUPTION.check()
            name = judge.verifier.name
            missing = [i for i, names in enumerate(keys) if self._record(names[name]) is None]
            if not missing:
                continue
            begin = time.monotonic()
            with metered() as calls:
                judged = judge.verifier.judge([self._view(takes[i], views[found[i].key]) for i in missing], self.models)
            seconds = round((time.monotonic() - begin) / len(missing), 4)
            self.records.append(
                "judgements",
                [
                    {"key": keys[i][name], "video": found[i].key, "verifier": name, "score": item.score,
                     "critique": item.critique, "seconds": seconds, "calls": spent}
                    for i, item, spent in zip(missing, judged, calls_by_item(calls, name, len(missing)), strict=True)
                ],
            )  # fmt: skip

    @staticmethod
    def _view(take: Take, view: View) -> View:
        """The view of a take; takes that share a video may be judged against other requests."""
        if (view.source_prompt, view.phys_law) == (take.prompt.text, take.prompt.phys_law):
            return view
        return View(take.prompt.text, take.prompt.phys_law, take.text, view.frames, view.fps, view.flow_seconds)

    def _measure_flow(self, found: Sequence[Screened], keys: Sequence[dict[str, str]], views: dict[str, View]) -> None:
        missing = {
            names[FLOW]: item.key for item, names in zip(found, keys, strict=True) if self._record(names[FLOW]) is None
        }
        if not missing:
            return
        begin = time.monotonic()
        # OpenCV releases the interpreter lock, so threads are enough.
        with ThreadPoolExecutor() as pool:
            flows = list(pool.map(lambda video: (views[video].flow, views[video].motion_words), missing.values()))
        seconds = round((time.monotonic() - begin) / len(missing), 4)
        self.records.append(
            "judgements",
            [
                {
                    "key": key,
                    "video": video,
                    "verifier": FLOW,
                    "flow": [list(mean) for mean in means],
                    "motion": words,
                    "seconds": seconds,
                }
                for (key, video), (means, words) in zip(missing.items(), flows, strict=True)
            ],
        )


def round_row(take: Take, item: Screened, names: Mapping[str, str], recipe_hash: str) -> Row:
    """The row of a take, as the join of its records; it has no rewrite yet.

    Args:
        take: The take.
        item: What is known of it.
        names: Names of the models by role.
        recipe_hash: What the row is made by.
    """
    judged = {name: record for name, record in item.judgements.items() if name != FLOW}
    return {
        "prompt_id": take.prompt.id,
        "source_prompt": take.prompt.text,
        "phys_law": take.prompt.phys_law,
        "round": take.round,
        "prompt": take.text,
        "seed": take.seed,
        "video": item.generation.get("video", ""),
        **{f"score_{name}": record["score"] for name, record in judged.items()},
        "critique": " ".join(record["critique"] for record in judged.values() if record["critique"]),
        "physics": "",
        "flow": item.judgements[FLOW]["flow"] if FLOW in item.judgements else [],
        "motion": item.judgements[FLOW]["motion"] if FLOW in item.judgements else "",
        "next_prompt": "",
        "shortened": "",
        "ended": "",
        "video_model": names["video_model"],
        "vision_language_model": names["vision_language_model"],
        "language_model": names["language_model"],
        "recipe_hash": recipe_hash,
        "seconds_generate": item.generation.get("seconds", 0.0),
        "seconds_judge": sum(record["seconds"] for record in item.judgements.values()),
        "seconds_rewrite": 0.0,
        # Records of earlier releases have none.
        "calls": [call for record in judged.values() for call in record.get("calls", [])],
    }
