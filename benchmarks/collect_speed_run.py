"""A process of `collect_speed.py`: a command whose phases are measured, the stand-in, or a video model's steps.

Not to be called by hand. What was measured goes into the file `--notes` as JSON, whatever ends the process but SIGKILL.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from rapo_lightning.cli import main as command_line
from rapo_lightning.collection import CollectionWorker
from rapo_lightning.data.prompts import read_prompts
from rapo_lightning.models import DiffusersVideoModel
from rapo_lightning.models.phases import Moment, PhaseMeter, observed_by
from rapo_lightning.recipe.components import allow_packages
from rapo_lightning.recipe.files import load_recipe

Found = dict[str, Any]


def _of(meter: PhaseMeter, wall: float) -> Found:
    gigabytes = {name: round(value / 1e9, 2) for name, value in meter.peaks.items()}
    return {"wall": wall, "seconds": dict(meter.seconds), "peaks": gigabytes}


def command(arguments: list[str]) -> Found:
    """A command of rapo-lightning, such as `collect`."""
    meter, begin = PhaseMeter(synchronize=True), time.monotonic()
    with observed_by(meter):
        try:
            code = command_line(arguments)
        except SystemExit as ended:
            code = ended.code
    return {**_of(meter, time.monotonic() - begin), "code": code}


def stand_in(recipe: Path, folder: Path) -> Found:
    """The practice of one script a prompt: in each round of each prompt all models are built and loaded anew."""
    allow_packages(["tests"])
    read, begin, meter = load_recipe(recipe), time.monotonic(), PhaseMeter(synchronize=True)
    folder.mkdir(parents=True, exist_ok=True)
    rounds = 0
    with observed_by(meter):
        for prompt in read_prompts(read.prompts, read.limit):
            for number in range(read.stage2.rounds):
                stage2 = dataclasses.replace(read.stage2, rounds=number + 1)
                CollectionWorker(dataclasses.replace(read, stage2=stage2), folder).run([prompt])
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                rounds += 1
    return {**_of(meter, time.monotonic() - begin), "rounds": rounds}


class _Profiled(PhaseMeter):
    """Runs the profiler over the steps of a video."""

    def __init__(self) -> None:
        super().__init__(synchronize=True)
        self._gpu = torch.cuda.is_available()
        kinds = [torch.profiler.ProfilerActivity.CUDA] if self._gpu else [torch.profiler.ProfilerActivity.CPU]
        self.profiler = torch.profiler.profile(activities=kinds)

    def begin(self, phase: Any, moment: Moment) -> None:
        super().begin(phase, moment)
        if phase == "denoise":
            self.profiler.start()

    def end(self, phase: Any, moment: Moment) -> None:
        super().end(phase, moment)
        if phase == "denoise":
            self.profiler.stop()

    def kernels(self) -> float:
        """Seconds of all kernels, copies and fills together; of operators on a CPU."""
        wanted = torch.autograd.DeviceType.CUDA if self._gpu else torch.autograd.DeviceType.CPU
        # Annotations span the kernels that they name.
        events = [
            event
            for event in self.profiler.events()
            if event.device_type == wanted
            and not getattr(event, "is_user_annotation", False)
            and not event.name.startswith(("ProfilerStep", "Torch-Compiled"))
        ]
        return sum(event.time_range.elapsed_us() if self._gpu else event.self_cpu_time_total for event in events) / 1e6


def steps(arguments: Found, profile: bool) -> Found:
    """One video after another one that is not counted; with `profile` a third, whose kernels are summed."""
    model = DiffusersVideoModel(**arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    begin = time.monotonic()
    model.to(device)
    model.generate(["a red ball rolls over the floor"], [0])
    ready, meter = time.monotonic() - begin, PhaseMeter(synchronize=True)
    ran = _count_blocks(model)
    begin = time.monotonic()
    with observed_by(meter):
        model.generate(["a glass of water tips over"], [1])
    found = {**_of(meter, time.monotonic() - begin), "until_ready": ready, "blocks": ran[0]}
    if profile:
        profiled = _Profiled()
        with observed_by(profiled):
            model.generate(["a dog jumps into a lake"], [2])
        found["kernels"] = profiled.kernels()
    return found


def _count_blocks(model: DiffusersVideoModel) -> list[int]:
    """Counts the runs of feed-forward layers, which are those of blocks that no cache left out; none where they are compiled."""
    ran = [0]

    def count(*_: object) -> None:
        ran[0] += 1

    for block in () if model.compile else model._pipeline.transformer.blocks:
        block.ffn.register_forward_hook(count)
    return ran


def main() -> None:
    """Does as it is told, and notes what it measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("what", choices=("command", "stand_in", "steps", "profile"))
    chosen, rest = parser.parse_known_args()
    if chosen.what == "command":
        found = command(rest)
    elif chosen.what == "stand_in":
        found = stand_in(Path(rest[0]), Path(rest[1]))
    else:
        found = steps(json.loads(rest[0]), chosen.what == "profile")
    chosen.notes.write_text(json.dumps(found))
    sys.exit(found.get("code", 0))


if __name__ == "__main__":
    main()
