"""A command of rapo-lightning on several devices: run to its end, or with one of its processes killed; memory by device."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kills import descendants

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Devices:
    """How many, of what kind.

    Attributes:
        count: Number of GPUs, or with `cpu` of processes.
        cpu: Whether no GPU is used.
        minutes: How long a command may take.
    """

    count: int
    cpu: bool
    minutes: float

    def options(self, strategy: str = "ddp") -> list[str]:
        """What the command is told."""
        chosen = {
            "devices": self.count,
            "strategy": strategy if self.count > 1 else "auto",
            "enable_progress_bar": "false",
        }
        if self.cpu:
            chosen |= {"accelerator": "cpu", "precision": "32-true"}
        return [item for name, value in chosen.items() for item in (f"--trainer.{name}", str(value))]

    def one(self) -> Devices:
        """One of them."""
        return Devices(1, self.cpu, self.minutes)


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a command in a process group of its own; what it says is added to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "rapo_lightning", *arguments, "--allow_package", "tests"],
            cwd=ROOT, env=environment, stdout=file, stderr=file, process_group=0,
        )  # fmt: skip


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(arguments: list[str], log: Path, minutes: float) -> float:
    """Runs a command to its end; returns the seconds.

    Raises:
        RuntimeError: If it fails, or takes longer than it may.
    """
    begin = time.monotonic()
    process = start(arguments, log)
    try:
        code = process.wait(minutes * 60)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"not done in {minutes:g} minutes, see {log}") from error
    finally:
        _end(process)
    if code:
        raise RuntimeError(f"ended with {code}: {log.read_text(errors='replace')[-600:]}")
    return time.monotonic() - begin


def kill_one(arguments: list[str], log: Path, minutes: float, ready: Callable[[], bool]) -> tuple[int, float, str]:
    """Starts a command and kills its last process as soon as something is there.

    Args:
        arguments: The command.
        log: Gets what it says.
        minutes: How long that may take.
        ready: Whether it is there.

    Returns:
        What the first process ended with, the seconds until all had ended, and what they said in them.

    Raises:
        RuntimeError: If the command ends before, or takes longer than it may.
    """
    process, until = start(arguments, log), time.monotonic() + minutes * 60
    try:
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"nothing to kill: {log.read_text(errors='replace')[-600:]}")
            time.sleep(0.02)
        fellows = descendants(process.pid, f"{sys.executable} -m rapo_lightning")
        said, begin = log.stat().st_size, time.monotonic()
        os.kill(fellows[-1], signal.SIGKILL)
        code = process.wait(120)
        while any(Path(f"/proc/{pid}").exists() for pid in fellows) and time.monotonic() < begin + 120:
            time.sleep(0.1)
        return code, time.monotonic() - begin, log.read_bytes()[said:].decode(errors="replace")
    except subprocess.TimeoutExpired:
        return 0, 120.0, "the others wait still after 120 s"
    finally:
        _end(process)


@contextlib.contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The most memory of each GPU in MiB that was seen while something ran, empty without GPUs."""
    peaks: list[int] = []
    done = threading.Event()
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]

    def look() -> None:
        while not done.wait(1):
            found = [int(line) for line in subprocess.run(query, capture_output=True, text=True).stdout.split()]
            peaks[:] = [max(pair) for pair in zip(found, peaks or found, strict=True)]

    try:
        subprocess.run(query, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        yield peaks
        return
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield peaks
    done.set()
    thread.join()
