"""Trajectories that were made elsewhere: their videos judged by a recipe's verifiers, a row for each round."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from ..data.authors_log import LoggedRound
from ..data.records import Records
from ..data.store import Row
from ..data.trajectory import TrajectoryStore
from ..data.videos import VideoStore, examine_video, frame_rate, video_path
from ..models import ModelPool
from ..recipe.identity import digest
from ..running.interruption import INTERRUPTION
from ..verifiers import View
from ..verifiers.flow import FLOW_VERSION
from .judgements import Judge, Judging, Screened, Take
from .row import round_row

MISSING = "The video is missing: there is no such file."


@dataclass(frozen=True)
class ImportedRound:
    """A round with its video.

    Attributes:
        logged: What the log says of it.
        path: The video's file, which may be missing.
    """

    logged: LoggedRound
    path: Path

    @cached_property
    def key(self) -> str:
        """Identity of the video by its contents; empty where it is missing."""
        if not self.path.is_file():
            return ""
        with self.path.open("rb") as file:
            return digest(["imported", hashlib.file_digest(file, "sha256").hexdigest()])

    @property
    def take(self) -> Take:
        """What verifiers judge; its seed is not known."""
        return Take(self.logged.prompt, self.logged.text, 0, self.logged.round)


def rounds_identity(rounds: Sequence[ImportedRound], judges: Sequence[Judge], flow_seconds: float) -> str:
    """The `recipe_hash` of imported rows: what the log says, the videos' contents, and what judges them."""
    told = [
        [log.prompt.id, log.round, log.text, log.physics, log.critique, log.next_text, item.key]
        for item in tqdm(rounds, desc="videos", unit="video", delay=5)
        for log in [item.logged]
    ]
    return digest(["imported", told, [judge.identity for judge in judges], flow_seconds, FLOW_VERSION])


class Importer:
    """Judges rounds and writes their rows; what a run before has recorded or written is not made again."""

    def __init__(
        self,
        models: ModelPool,
        judges: Sequence[Judge],
        run_folder: Path,
        flow_seconds: float,
        save_videos: bool,
    ) -> None:
        """Opens the run folder.

        Args:
            models: Lends verifiers their models.
            judges: The verifiers.
            run_folder: Gets `records/`, `trajectories/` and, with `save_videos`, copies of the videos.
            flow_seconds: Time between two frames of the optical flow.
            save_videos: Whether to copy the videos, so that the gallery shows them.
        """
        self.models, self.judges, self.flow_seconds, self.save_videos = models, judges, flow_seconds, save_videos
        self.records, self.videos = Records(run_folder, "import"), VideoStore(run_folder)
        self.store = TrajectoryStore(run_folder / "trajectories", [judge.verifier.name for judge in judges])
        self._judging = Judging(models, judges, self.records, flow_seconds)

    def run(self, rounds: Sequence[ImportedRound], identity: str, batch_size: int) -> tuple[list[Row], Counter[str]]:
        """Brings every round to its row.

        Args:
            rounds: The rounds.
            identity: The rows' `recipe_hash`.
            batch_size: Videos that are in memory together.

        Returns:
            The rows, and what is wrong with videos (`is missing`), with the number of rounds.
        """
        self.store.clean()
        self.videos.clean()
        done = {(row["prompt_id"], row["round"]) for row in self.store.rows(identity)}
        left = [item for item in rounds if (item.logged.prompt.id, item.logged.round) not in done]
        with INTERRUPTION.watched():
            for begin in tqdm(range(0, len(left), batch_size), desc="import", unit="batch", delay=5):
                INTERRUPTION.check()
                self.store.append(list(self._rows(left[begin : begin + batch_size], identity)))
        faults = Counter(_short(fault) for fault in map(self._fault, rounds) if fault)
        return self.store.rows(identity), faults

    def _rows(self, part: Sequence[ImportedRound], identity: str) -> Iterator[Row]:
        views: dict[str, View] = {}
        for item in part:
            if item.key:
                self._look(item, views)
        whole = [item for item in part if not self._fault(item)]
        self._judge(whole, views)
        for item in part:
            yield self._row(item, identity)

    def _look(self, item: ImportedRound, views: dict[str, View]) -> None:
        """Reads a video that no record knows of, or that a verifier has not judged, and copies it."""
        record = self.records.get("generations", item.key)
        if record is None or (not record["fault"] and self._judging.lacks(self._judging.keys(item.take, item.key))):
            frames, fault = examine_video(item.path)
            record = {"key": item.key, "prompt": item.logged.text, "video": "", "bytes": 0, "seconds": 0.0,
                      "frames": len(frames), "fault": fault}  # fmt: skip
            views[item.key] = View("", "", "", frames, frame_rate(item.path), self.flow_seconds)
        if self.save_videos and not record["fault"] and not self.videos.is_whole(record["video"], record["bytes"]):
            relative = video_path(item.logged.prompt.id, item.logged.round, item.key)
            self.videos.copy(relative, item.path)
            record = {**record, "video": relative, "bytes": self.videos.size(relative)}
        if record != self.records.get("generations", item.key):
            self.records.append("generations", [record])

    def _judge(self, items: Sequence[ImportedRound], views: dict[str, View]) -> None:
        """Asks the verifiers, which take a batch for videos of one rate."""
        groups: dict[float, list[ImportedRound]] = {}
        for item in items:
            groups.setdefault(views[item.key].fps if item.key in views else 0.0, []).append(item)

        def view_of(take: Take, found: Screened) -> View:
            view = views[found.key]
            return View(take.prompt.text, take.prompt.phys_law, take.text, view.frames, view.fps, view.flow_seconds)

        for group in groups.values():
            takes = [item.take for item in group]
            keys = [self._judging.keys(take, item.key) for take, item in zip(takes, group, strict=True)]
            self._judging.judge(takes, [Screened(item.key) for item in group], keys, view_of)

    def _fault(self, item: ImportedRound) -> str:
        """What is wrong with the video of a round that was looked at."""
        return (self.records.get("generations", item.key) or {}).get("fault", "") if item.key else MISSING

    def _row(self, item: ImportedRound, identity: str) -> Row:
        logged, fault = item.logged, self._fault(item)
        take, found = item.take, Screened(item.key, self.records.get("generations", item.key) or {})
        if not fault:
            found.judgements = self._judging.found(self._judging.keys(take, item.key))
        # Who made video and rewrite is not known; who has judged is.
        row = round_row(take, found, {**self.models.names, "video_model": "", "language_model": ""}, identity)
        critique = " ".join(part for part in (logged.critique, row["critique"], fault) if part)
        told = {"critique": critique, "physics": logged.physics, "next_prompt": logged.next_text}
        unknown = dict.fromkeys(("seed", "seconds_generate", "seconds_rewrite"))
        return {**row, **told, **unknown, "motion": fault or row["motion"]}


def _short(fault: str) -> str:
    """What is wrong with a video, without the particulars of that one."""
    return re.split(r":|\.$| after", fault.removeprefix("The video "))[0]
