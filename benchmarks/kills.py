"""Runs of a command that can be killed: forks of one server process that has imported the libraries.

So a kill falls into the work and not into imports. A process that uses a GPU cannot be such a fork, and is started anew.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from rapo_lightning.cli import main as rapo_lightning
from rapo_lightning.recipe import components

_FORKS, _ANEW = multiprocessing.get_context("forkserver"), multiprocessing.get_context("spawn")


def _work(arguments: list[str]) -> None:
    # Forks of a process that has used several threads would wait for them for ever.
    torch.set_num_threads(1)
    components.allow_packages(["tests"])
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = rapo_lightning([*arguments, "--trainer.enable_progress_bar", "false"])
    if code:
        print(told.getvalue()[-2000:], file=sys.stderr)
    sys.exit(code)


def descendants(pid: int, title: str) -> list[int]:
    """Processes that a process has started, directly or not, whose title begins with a text (Linux)."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            # The name, in brackets, may hold spaces.
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    found, below = [], [pid]
    while below:
        parent = below.pop()
        children = [child for child, its in parents.items() if its == parent]
        below += children
        found += [child for child in children if titles.get(child, "").startswith(title)]
    return sorted(found)


class Runs:
    """Runs of one command on one recipe."""

    def __init__(
        self,
        command: str,
        recipe: Path,
        preload: list[str],
        options: Callable[[Path], list[str]] = lambda folder: [],
        anew: bool = False,
        begun: Callable[[Path], bool] = lambda folder: True,
    ) -> None:
        """Prepares the server process.

        Args:
            command: Name of the command.
            recipe: Its recipe.
            preload: Modules that the server imports before it forks.
            options: Further arguments of a run in a folder.
            anew: Whether each run is a process of its own from the start.
            begun: Whether a run in a folder has come so far that its clock starts.
        """
        self.command, self.recipe, self.options, self.begun = command, recipe, options, begun
        self.processes: Any = _ANEW if anew else _FORKS
        _FORKS.set_forkserver_preload(["benchmarks.kills", "tests.helpers", *preload])

    def start(self, folder: Path) -> BaseProcess:
        """Starts the command in a process of its own, and waits until it has begun."""
        arguments = [self.command, str(self.recipe), "--out", str(folder), *self.options(folder)]
        process: BaseProcess = self.processes.Process(target=_work, args=(arguments,))
        process.start()
        while not self.begun(folder) and process.is_alive():
            process.join(0.01)
        return process

    def finish(self, folder: Path) -> float:
        """Runs the command to its end; returns the seconds since it had begun.

        Raises:
            RuntimeError: If it does not end well.
        """
        process = self.start(folder)
        begin = time.monotonic()
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"{self.command} ended with {process.exitcode} in {folder}")
        return time.monotonic() - begin

    def kill(self, folder: Path, moment: float) -> None:
        """Starts the command and kills it so many seconds after it has begun."""
        process = self.start(folder)
        process.join(moment)
        process.kill()
        process.join()
