"""The processes of a run stay together: where one is lost, the others end with one sentence instead of waiting for it for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from ..errors import RunError
from .interruption import INTERRUPTION

_FIRST = "RAPO_LIGHTNING_FIRST"
"""Environment variable by which the first process of a run tells those that it starts its process id."""
_LOOK, _GRACE, _FINISH = 0.5, 5.0, 30.0
"""Seconds between two looks, those in which a process may still end by itself, and those in which one that was asked to end may
finish what is in hand (ours; SLURM waits 30 s by default)."""


def _lost(who: str) -> str:
    return f"The processes of a run must stay together. Got {who}; what was recorded is kept, run the same command again to go on."


def _first_is_gone() -> bool:
    return os.getppid() != int(os.environ[_FIRST])


def _speaks() -> bool:
    """Whether this process says what happened: the first one does, and where it is gone the second on its machine."""
    return not _WATCH.started or _first_is_gone() and os.environ.get("LOCAL_RANK") == "1"


def _end(text: str) -> None:
    """Ends this process where its main thread may wait in a library for something that never comes."""
    if _speaks():
        print(f"rapo-lightning: {text}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(RunError.exit_code)


class Fellows(_SubprocessScriptLauncher):
    """Lightning's launcher of further processes on a machine, whose own watch kills the first one without a word."""

    _failed = False

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Starts the other processes and calls a function; if that fails here, they are ended too.

        Args:
            function: What all of them do.
            args: Its arguments.
            trainer: The Trainer.
            kwargs: Further arguments of it.
        """
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        # Those of an earlier Trainer of this run go on with this one.
        if not self.cluster_environment.creates_processes_externally:
            os.environ[_FIRST] = str(os.getpid())
            self._call_children_scripts()
            threading.Thread(target=self._watch, daemon=True, name="fellows").start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        try:
            return function(*args, **kwargs)
        except BaseException:
            self._end_others(_FINISH if INTERRUPTION.requested else _GRACE)
            raise

    def _watch(self) -> None:
        while not self._failed:
            time.sleep(_LOOK)
            codes = [process.poll() for process in self.procs]
            for number, code in enumerate(codes, 1):
                if code and not self._failed:
                    self._end_all(number, code)
            if all(code == 0 for code in codes):
                return

    def _end_all(self, number: int, code: int) -> None:
        if code > 0:
            # It has said why; what it found, this process may find too.
            time.sleep(_GRACE)
        if not self._failed:
            how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
            self._end_others(0)
            _end(_lost(f"process {number + 1} of {self.num_processes}, which ended by {how}"))

    def _end_others(self, grace: float) -> None:
        """Ends the other processes, those that were asked to finish what is in hand after that."""
        self._failed = True
        until = time.monotonic() + grace
        for process in self.procs:
            if INTERRUPTION.requested:
                process.terminate()
        for process in self.procs:
            try:
                process.wait(max(until - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()


class _Watch:
    """That of a process which another one started."""

    def __init__(self) -> None:
        self.inside, self.started = 0, False

    def start(self) -> None:
        if not self.started:
            self.started = True
            threading.Thread(target=self._run, daemon=True, name="fellows").start()

    def _run(self) -> None:
        while not _first_is_gone():
            time.sleep(_LOOK)
        # At the end of a run the first process may be done a little earlier.
        time.sleep(_GRACE)
        while not self.inside:
            time.sleep(_LOOK)
        _end(_lost("the end of its first process"))


_WATCH = _Watch()


def stay_together(strategy: Strategy) -> None:
    """Has this process watch over those that it will start, or over the one that started it.

    torchrun, SLURM and Ray watch over their processes themselves.

    Args:
        strategy: A Trainer's.
    """
    launcher = strategy.launcher
    if type(launcher) is _SubprocessScriptLauncher:
        strategy._launcher = Fellows(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
    if os.environ.get(_FIRST, "") not in ("", str(os.getpid())) and os.environ.get("LOCAL_RANK", "0") != "0":
        _WATCH.start()


@contextmanager
def together() -> Iterator[None]:
    """To be put around what all processes of a run do at the same time.

    Raises:
        RunError: If the connection to another one is lost.
    """
    _WATCH.inside += 1
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            # Connections of a process close a moment before it is gone.
            time.sleep(_LOOK)
            if not _speaks():
                _end("")
            raise RunError(_lost("no answer from one of them")) from error
        raise
    finally:
        _WATCH.inside -= 1
