"""Runs another program: no shell, a time limit that ends it with all its children, its output in a file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAUNCHERS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")
"""What torchrun and its like tell a process that they started; whoever is started by that process must not believe it."""
_GRACE = 10.0
"""Seconds between asking a program to end (SIGTERM) and ending it (SIGKILL) (ours)."""
_LONGEST_LINE = 200


@dataclass(frozen=True)
class Ending:
    """How a program ended.

    Attributes:
        code: Its exit code, negative for a signal; None if it was ended at its time limit.
        last_line: The last line that it wrote, shortened; empty if it wrote none.
    """

    code: int | None
    last_line: str


def without_launcher(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what a launcher (torchrun, SLURM) told this process alone."""
    return {
        name: value for name, value in environment.items() if name not in LAUNCHERS and not name.startswith("SLURM_")
    }


def run_program(
    arguments: Sequence[str], folder: Path | None, environment: Mapping[str, str], timeout: float, log: Path
) -> Ending:
    """Runs a program to its end, or ends it.

    Args:
        arguments: The program and its arguments, as they are: no shell reads them.
        folder: Its working directory; None is this process's.
        environment: Its environment.
        timeout: Seconds after which it is ended with all its children.
        log: File for what it writes to both of its streams.

    Raises:
        OSError: If it cannot be started.
    """
    with log.open("wb") as output:
        # A session of its own: whatever it starts is of its group and ends with it.
        process = subprocess.Popen(
            list(arguments), cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    code: int | None = None
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout)
    finally:
        # Also after its own end, and when this process is interrupted: no child may go on holding a GPU.
        _end_group(process)
    return Ending(code, _last_line(log))


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of a program's process group, first by asking."""
    deadline = time.monotonic() + _GRACE
    _signal(process, signal.SIGTERM)
    while _signal(process, 0):
        if time.monotonic() > deadline:
            _signal(process, signal.SIGKILL)
            break
        time.sleep(0.05)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    """Sends a signal to a program's group, 0 for none; whether somebody of it is left."""
    # A leader that has ended is of the group until it is waited for.
    process.poll()
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return next((" ".join(line.split())[:_LONGEST_LINE] for line in reversed(lines) if line.strip()), "")
