"""What the videos of an evaluation say of its arms: scores by prompt, texts against requests, and what videos lack."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...prompting.text import words
from ..labels import Labels
from ..reading import translated
from ..remarks import remark
from ..requests import asked, wordings
from ..scripts.files import possible_values

Floats = NDArray[np.float64]
SEEDED = re.compile(r"(.+)\.s\d+")
"""Name of a setting's refiner, by training seed."""


@dataclass(frozen=True)
class Video:
    """A video of an arm; `score` is NaN where the metric gave none."""

    arm: str
    prompt_id: str
    prompt: str
    group: str
    seed: str
    text: str
    score: float
    critique: str


@dataclass
class Arm:
    """The videos of an arm, or of all training seeds of a setting.

    Attributes:
        name: Its name.
        videos: By prompt id.
        trainings: Names of the trainings in it.
    """

    name: str
    videos: dict[str, list[Video]] = field(default_factory=lambda: defaultdict(list))
    trainings: set[str] = field(default_factory=set)

    def scores(self, prompts: Sequence[str]) -> Floats:
        """The mean over training and video seeds within each prompt; NaN where one lacks a score."""
        return np.array([np.mean([v.score for v in self.videos[p]]) if self.videos[p] else np.nan for p in prompts])

    def by_training(self) -> list[float]:
        """Mean score of each training's videos, by seed, of those that have one."""
        found: dict[str, list[float]] = defaultdict(list)
        for videos in self.videos.values():
            for video in videos:
                found[video.arm].append(video.score)
        return [float(np.nanmean(found[name])) for name in sorted(found)]

    def texts(self, prompt: str) -> list[Video]:
        """A video of each training's text."""
        return list({video.arm: video for video in self.videos[prompt]}.values())


@lru_cache(maxsize=100_000)
def _named(prompt: str, text: str, label: tuple[tuple[str, str], ...]) -> dict[str, bool]:
    return translated(prompt, text, dict(label) or None)


def named_by(video: Video, labels: Labels) -> dict[str, bool]:
    """For each attribute that a video's prompt asks for whether its text names it right, and nothing else instead."""
    return _named(video.prompt, video.text, _label(video, labels))


def shown_by(video: Video, labels: Labels) -> dict[str, bool]:
    """For each attribute that a video's prompt asks for whether it shows it, by the oracle's critique; nothing without a score."""
    if not np.isfinite(video.score):
        return {}
    remarks = _remarks(video.prompt, _label(video, labels))
    return {key: not any(sentence in video.critique for sentence in sentences) for key, sentences in remarks.items()}


def _label(video: Video, labels: Labels) -> tuple[tuple[str, str], ...]:
    return tuple(labels.get(video.prompt, {}).items())


def named_right(arm: Arm, prompt: str, labels: Labels) -> dict[str, float]:
    """For each attribute that a prompt asks for the share of an arm's texts that name it right, and nothing else instead.

    Args:
        arm: The arm.
        prompt: The prompt's id.
        labels: What hand-written requests ask for.
    """
    return _shares(named_by(video, labels) for video in arm.texts(prompt))


def shown_right(arm: Arm, prompt: str, labels: Labels) -> dict[str, float]:
    """For each attribute that a prompt asks for the share of an arm's scored videos that show it; arguments as above."""
    return _shares(shown_by(video, labels) for video in arm.videos[prompt])


def _shares(answers: Iterable[Mapping[str, bool]]) -> dict[str, float]:
    found: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        for key, value in answer.items():
            found[key].append(value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def length(arm: Arm, prompt: str) -> float:
    """Mean number of words of an arm's texts for a prompt."""
    return float(np.mean([len(words(video.text)) for video in arm.texts(prompt)]))


@lru_cache(maxsize=20_000)
def _remarks(prompt: str, label: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, ...]]:
    """All that the oracle may say of each attribute that a request asks for."""
    wanted = dict(label) or asked(prompt)
    said = dict.fromkeys(wanted, f'"{prompt}"') if label else wordings(prompt)
    return {
        key: tuple(remark(key, seen, said[key]) for seen in ["", *possible_values(key, wanted), *_others(key)])
        for key in wanted
    }


def _others(key: str) -> list[str]:
    # Two bodies may be seen where one is asked for, and one where two are.
    from ..world import MOTIONS

    return list(MOTIONS) if key == "motion" else []
