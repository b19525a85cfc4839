"""A loop's folder: its table, its best refiner, and whether a loop may go on in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import RunError, UserError
from ..models.refiner_folder import read_refiner
from ..running.folder import LOOP, is_main_process, write_text
from ..stage3.export import copy_refiner, recover
from .gains import Cycle, best_cycle, loop_summary
from .recipes import cycle_folder


class LoopFolder:
    """What a loop keeps beside its cycles; the caller holds the folder's lock."""

    def __init__(self, path: Path) -> None:
        """Remembers the place."""
        self.path = path

    @property
    def refiner(self) -> Path:
        """Where the best cycle's refiner goes."""
        return self.path / "refiner"

    def read(self) -> dict[str, Any]:
        """The contents of `loop.json`; no cycles where there is none.

        Raises:
            RunError: If it is damaged.
        """
        place = self.path / LOOP
        if not place.is_file():
            return {"cycles": []}
        try:
            found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
            _ = [cycle["refiner"] for cycle in found["cycles"]]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{place} must hold what `loop` writes. Got {type(error).__name__}: {error} on reading it; move it and the "
                f"folder {self.refiner} away and run the same command again: the cycles are kept."
            ) from error
        return found

    def begin(self, cycles: int) -> None:
        """Puts the folder in order after a kill, and marks it as a loop's.

        Args:
            cycles: How many there shall be.

        Raises:
            UserError: If there are more already, or a refiner that is not the loop's own would be replaced.
        """
        if is_main_process():
            recover(self.refiner)
        found = self.read()["cycles"]
        if len(found) > cycles:
            raise UserError(
                f"`--cycles` counts all cycles of a loop, those that are done too. Got {cycles} for {self.path}, which has "
                f"{len(found)}; give {len(found)} or more, or choose another `--out`."
            )
        if self.refiner.is_dir() and self._identity() not in self._own():
            raise UserError(
                f"A loop ends with its best refiner in {self.refiner}. Got one there that is none of its cycles'; move it "
                "away, or choose another `--out`."
            )
        if not found and is_main_process():
            self._write(loop_summary([], "", ""))

    def _own(self) -> set[str]:
        """Identities of refiners that the loop may replace."""
        found = self.read()
        return {cycle["refiner"] for cycle in found["cycles"]} | {found.get("replaces", "")}

    def _identity(self) -> str:
        return read_refiner(self.refiner).identity() if self.refiner.is_dir() else ""

    def keep(self, done: Sequence[Cycle], metric: str, reason: str) -> None:
        """Writes what the cycles gained, and then the best one's refiner; nothing before it knows more than is there already.

        Args:
            done: The cycles in order.
            metric: Name of the metric.
            reason: Why the loop ended; empty while it goes on.
        """
        if not is_main_process() or (not reason and len(done) < len(self.read()["cycles"])):
            return
        # First: the table says whose the refiner is, and, where a kill comes in between, was.
        self._write({**loop_summary(done, metric, reason), "replaces": self._identity()})
        copy_refiner(cycle_folder(self.path, best_cycle(done).number) / "refiner", self.refiner)

    def _write(self, contents: dict[str, Any]) -> None:
        write_text(self.path / LOOP, json.dumps(contents, indent=2) + "\n")
