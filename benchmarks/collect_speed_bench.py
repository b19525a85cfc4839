"""What the parts of `collect_speed.py` share: where numbers are kept, the recipe, and processes that measure."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.processes import ROOT

_GRACE = 150
"""Seconds that a collection has to end what it is at."""


@dataclass(frozen=True)
class Speed:
    """What all parts share: where numbers are kept, and the options of the command."""

    out: Path
    chosen: argparse.Namespace

    def kept(self, name: str) -> dict[str, Any] | None:
        """What was measured under a name."""
        path = self.out / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def keep(self, name: str, found: dict[str, Any]) -> dict[str, Any]:
        """Keeps a measurement."""
        path = self.out / f"{name}.json"
        path.with_suffix(".tmp").write_text(json.dumps(found))
        os.replace(path.with_suffix(".tmp"), path)
        return found

    def recipe(self, name: str, video: dict[str, Any], steps: int, **changes: Any) -> Path:
        """`recipes/wan21.yaml` with random weights, as a file."""
        found = yaml.safe_load((ROOT / "recipes/wan21.yaml").read_text())
        weights, tiny = self.out / "weights", self.chosen.tiny
        for role in ("language_model", "vision_language_model", "embedder"):
            found[role]["init_args"]["checkpoint"] = str(weights / role)
        found["video_model"]["init_args"] |= {"checkpoint": str(weights / "video_model"), **video}
        call = found["video_model"]["init_args"]["call"]
        call["num_inference_steps"] = 2 if tiny else steps
        if tiny:
            found["video_model"]["init_args"]["compile"] = video.get("compile", False)
            call |= {"height": 32, "width": 32, "num_frames": 5, "max_sequence_length": 64}
            found["stage2"]["sampling"]["max_new_tokens"] = found["stage2"]["physics_tokens"] = 4
            found["trainer"] = {"accelerator": "cpu"}
        found["trainer"] = {**found.get("trainer", {}), "devices": 1, "enable_progress_bar": False}
        found |= {"name": name, "limit": changes.pop("limit", self.chosen.prompts), **changes}
        found["stage2"] |= {"rounds": self.chosen.rounds, "batch_size": self.chosen.prompts}
        path = self.out / f"{name}.yaml"
        path.write_text(yaml.safe_dump(found))
        return path

    def video(self, **changes: Any) -> dict[str, Any]:
        """Arguments of the video model with few steps."""
        found = yaml.safe_load(self.recipe("few", changes, self.chosen.few).read_text())
        return dict(found["video_model"]["init_args"])

    def run(self, name: str, what: str, *arguments: str) -> dict[str, Any]:
        """Runs a process that measures; one that takes too long is asked to end.

        Raises:
            RuntimeError: If it fails, and nothing was measured.
        """
        notes, log = self.out / f"{name}.notes", self.out / f"{name}.log"
        notes.unlink(missing_ok=True)
        words = [sys.executable, str(ROOT / "benchmarks/collect_speed_run.py"), "--notes", str(notes), what, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        with log.open("ab") as file:
            process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=file, stderr=file)
        try:
            process.wait(self.chosen.minutes * 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if not notes.is_file():
            raise RuntimeError(f"{name} ended with {process.returncode}: {log.read_text(errors='replace')[-600:]}")
        return dict(json.loads(notes.read_text()))
