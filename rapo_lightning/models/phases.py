"""The phases of a round, for whoever measures them: time, memory."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

Phase = Literal["load", "encode", "denoise", "decode", "flow", "judge", "rewrite"]
"""Weights read or moved; prompts through the text encoder; steps; the VAE; optical flow; verifiers; physics check and rewrite."""


@dataclass(frozen=True)
class Moment:
    """What is measured where a phase begins or ends, once for all observers.

    Attributes:
        time: Seconds of a clock that never goes back.
        peak: Most bytes that were allocated on the GPU since the moment before; 0 without one.
        there: Bytes that are allocated now.
    """

    time: float
    peak: int = 0
    there: int = 0


class Observer(Protocol):
    """Is told when a phase begins and ends; loading may be within another phase, which then waits for it."""

    synchronize: bool
    """Whether to wait for the GPU at every change of phase, so that work is counted where it was begun."""

    def begin(self, phase: Phase, moment: Moment) -> None:
        """A phase begins."""

    def end(self, phase: Phase, moment: Moment) -> None:
        """It has ended."""


_OBSERVERS: list[Observer] = []


def _now(observers: Sequence[Observer]) -> Moment:
    if not torch.cuda.is_available():
        return Moment(time.monotonic())
    if any(observer.synchronize for observer in observers):
        torch.cuda.synchronize()
    moment = Moment(time.monotonic(), torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated())
    torch.cuda.reset_peak_memory_stats()
    return moment


def _begin(observers: Sequence[Observer], phase: Phase) -> None:
    moment = _now(observers) if observers else None
    for observer in observers:
        observer.begin(phase, moment)  # type: ignore[arg-type]


def _end(observers: Sequence[Observer], phase: Phase) -> None:
    moment = _now(observers) if observers else None
    for observer in observers:
        observer.end(phase, moment)  # type: ignore[arg-type]


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Tells an observer of all phases within.

    Args:
        observer: The observer.
    """
    _OBSERVERS.append(observer)
    try:
        yield
    finally:
        _OBSERVERS.remove(observer)


@contextmanager
def phase(name: Phase) -> Iterator[None]:
    """To be put around a phase.

    Args:
        name: The phase.
    """
    observers = list(_OBSERVERS)
    _begin(observers, name)
    try:
        yield
    finally:
        _end(observers, name)


class StepsThenDecode:
    """Two phases of one call of a diffusers pipeline: its steps, and the VAE, which begins after the last of them."""

    def __init__(self) -> None:
        """Nothing has begun."""
        self._observers = list(_OBSERVERS)
        self._now: Literal["denoise", "decode", ""] = ""

    def options(self, accepted: set[str]) -> dict[str, Any]:
        """What the pipeline's call is given so that the last step is noticed; nothing where nobody observes.

        Args:
            accepted: Names of the call's arguments; without a callback all of it counts as steps.
        """
        if self._observers and "callback_on_step_end" in accepted:
            return {"callback_on_step_end": self._after_step}
        return {}

    def __enter__(self) -> StepsThenDecode:
        """The steps begin."""
        self._switch("denoise")
        return self

    def __exit__(self, *_: object) -> None:
        """What was going on has ended."""
        self._switch("")

    def _after_step(self, pipeline: Any, step: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == pipeline.num_timesteps - 1:
            self._switch("decode")
        return tensors

    def _switch(self, to: Literal["denoise", "decode", ""]) -> None:
        if self._now:
            _end(self._observers, self._now)
        if to:
            _begin(self._observers, to)
        self._now = to


class PhaseMeter:
    """Seconds and peak memory of the phases, each without those within it.

    Attributes:
        seconds: By phase.
        peaks: Most bytes that were allocated on the GPU, by phase; empty without one.
        beside: The same without what was allocated when the phase began, or went on: weights that were there.
    """

    def __init__(self, synchronize: bool = False) -> None:
        """Nothing is measured yet.

        Args:
            synchronize: Whether to wait for the GPU at every change of phase, so that work is counted where it was begun.
        """
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.peaks: defaultdict[str, int] = defaultdict(int)
        self.beside: defaultdict[str, int] = defaultdict(int)
        self.synchronize = synchronize
        self._open: list[str] = []
        self._before = Moment(0.0)

    def begin(self, phase: Phase, moment: Moment) -> None:
        """As `Observer`."""
        self._count(moment)
        self._open.append(phase)

    def end(self, phase: Phase, moment: Moment) -> None:
        """As `Observer`."""
        self._count(moment)
        self._open.remove(phase)

    def _count(self, moment: Moment) -> None:
        """Counts what has passed for the innermost phase."""
        if self._open:
            phase = self._open[-1]
            self.seconds[phase] += moment.time - self._before.time
            if moment.peak:
                self.peaks[phase] = max(self.peaks[phase], moment.peak)
                self.beside[phase] = max(self.beside[phase], moment.peak - self._before.there)
        self._before = moment
