"""SIGTERM and Ctrl-C: what is in hand is finished and recorded, then the run ends and says how to go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import RunError


class Interruption:
    """Remembers that somebody asked this process to end (SLURM sends SIGTERM some time before it kills).

    Where nothing is in hand that `check` will end, and when asked twice, the process ends at once.
    """

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.requested, self._watched = False, 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While something runs that calls `check` from time to time."""
        self._watched += 1
        try:
            yield
        finally:
            self._watched -= 1

    def install(self) -> None:
        """Takes SIGTERM over; to be called by the process's main thread."""
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested or not self._watched:
            raise KeyboardInterrupt
        self.requested = True

    def check(self) -> None:
        """Ends the run if it was asked for; called where everything made so far is on disk.

        Raises:
            RunError: If the process was asked to end.
        """
        if self.requested:
            raise RunError(
                "The run was asked to end (SIGTERM). Got as far as the records on disk say; run the same command again to "
                "go on."
            )


INTERRUPTION = Interruption()
"""That of this process: a process has one set of signal handlers."""
