"""Does the steps of a study that are not done yet, some minutes at a time."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ...console import say
from ...errors import RunError, UserError
from ...running.folder import write_text
from .steps import Step

DONE = "done"
"""Folder with a file of each step, so that several processes can each do some of the steps."""


class Deadline:
    """Asks this process to end, as SLURM would, after so many minutes; 0 never does."""

    def __init__(self, minutes: float) -> None:
        """Takes the minutes, which begin with the block."""
        self._timer = threading.Timer(minutes * 60, self._end) if minutes else None
        self.passed = False

    def _end(self) -> None:
        # Whoever is in the middle of something ends it; a signal may also be lost, in a destructor say.
        self.passed = True
        os.kill(os.getpid(), signal.SIGTERM)

    def __enter__(self) -> Deadline:
        """Begins."""
        if self._timer:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the wait."""
        if self._timer:
            self._timer.cancel()


def read_done(folder: Path) -> dict[str, dict[str, object]]:
    """Identity and seconds of each step that is done, and whether it had to be left out, by name.

    Raises:
        RunError: If a file is damaged.
    """
    found: dict[str, dict[str, object]] = {}
    for path in sorted((folder / DONE).glob("*.json")):
        try:
            found[path.stem] = dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise RunError(
                f"{path} must be what the study wrote. Got {error}; remove it, and the step is found again."
            ) from error
    return found


def run_steps(steps: Sequence[Step], folder: Path, parts: Sequence[str], deadline: Deadline | None = None) -> int:
    """Does the steps of some parts that are not done; each that ends is noted at once.

    A step whose identity is another than when it was done is done again. What is made from it is not, unless its own settings
    changed too: remove the folder `done` to have every command look for itself.

    Args:
        steps: The steps in order.
        folder: The study's folder.
        parts: Which parts.
        deadline: When to begin no further step.

    Returns:
        How many were done now.

    Raises:
        UserError: If one could not be done.
        RunError: If one ended early, or the time is over.
    """
    done, count, begin = read_done(folder), 0, time.monotonic()
    wanted = [step for step in steps if step.part in parts]
    for number, step in enumerate(wanted, 1):
        if done.get(step.name, {}).get("identity") == step.identity():
            continue
        if deadline and deadline.passed:
            raise RunError(f"The time is over. Got {count} steps done now; run the same command again to go on.")
        say(f"\n== {number}/{len(wanted)} {step.name} ({time.monotonic() - begin:.0f} s)")
        _note(step, done, folder)
        count += 1
    return count


def _note(step: Step, done: dict[str, dict[str, object]], folder: Path) -> None:
    """Does a step and notes that it is done; the time of one that ends early is noted too."""
    earlier = done.get(step.name, {"identity": "", "seconds": 0.0})
    spent = 0.0 if earlier["identity"] else float(str(earlier["seconds"]))
    started, identity, left_out = time.monotonic(), "", False
    try:
        left_out, identity = not _ran(step), step.identity()
    finally:
        seconds = round(spent + time.monotonic() - started, 1)
        noted = {"identity": identity, "seconds": seconds, "left_out": left_out}
        write_text(folder / DONE / f"{step.name}.json", json.dumps(noted) + "\n")
    _free()


def _ran(step: Step) -> bool:
    """Whether a step could be done; one that is optional and has nothing to work on cannot."""
    try:
        step.run()
    except RunError:
        raise
    except UserError as error:
        if not step.optional:
            raise
        say(f"{error} The study goes on without {step.name}.")
        return False
    return True


def _free() -> None:
    """Gives back what the models of a step held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
