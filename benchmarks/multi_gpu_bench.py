"""What the parts of `multi_gpu.py` share: where numbers are kept, and one device against all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import Devices
from tests.helpers import tiny_language_model, tiny_recipe

LEAST = 1.9
"""What two GPUs must do of one's work; N of them 0.95 of N times."""


@dataclass(frozen=True)
class Bench:
    """What all parts share.

    Attributes:
        out: Folder of runs, weights and numbers.
        devices: All of them.
        tiny: Whether sizes are such as suit a CPU.
        base: Geometry of the base that is sharded.
    """

    out: Path
    devices: Devices
    tiny: bool
    base: str

    def once(self, name: str, measure: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """A measurement, or what it said before; it gets an empty folder."""
        kept, folder = self.out / f"{name}.json", self.out / name
        if not kept.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            kept.write_text(json.dumps(measure(folder)))
        found: dict[str, Any] = json.loads(kept.read_text())
        return found

    def compared(self, what: str, unit: str, measure: Callable[[Devices], float]) -> Line:
        """One device against all."""
        one, all_of_them = (measure(found) for found in (self.devices.one(), self.devices))
        least = LEAST / 2 * self.devices.count
        ratio = all_of_them / one
        return Line(
            what, f"{ratio:.2f} times ({one:.4g} and {all_of_them:.4g} {unit})", f"{least:.3g} times", ratio >= least
        )

    def recipe(self) -> str:
        """The lab's, or the tests' tiny one."""
        if not self.tiny:
            return "lab"
        folder = self.out / "recipe"
        folder.mkdir(exist_ok=True)
        return str(tiny_recipe(folder, self.language_model()))

    def language_model(self) -> Path:
        """A tiny one, so that a collection's time is that of its videos."""
        folder = self.out / "tiny-llm"
        return folder if (folder / "config.json").is_file() else tiny_language_model(folder)


@dataclass(frozen=True)
class Line:
    """A line of the table: what, what was found, what was asked for (empty: nothing), whether it is reached."""

    what: str
    got: str
    least: str
    good: bool
