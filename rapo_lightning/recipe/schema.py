"""The typed recipe: everything a run depends on, read from YAML in one place.

Each field's docstring says what it is and whether its default is the paper's (RAPO++, arXiv:2510.20206), another
work's, or ours.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..data.resources import fingerprint
from .stages import Component, Stage1, Stage2, Stage3


@dataclass
class Evaluation:
    """What `evaluate` compares."""

    prompts: str = ""
    """Held-out prompts: txt, csv, parquet or a dataset's folder; the columns are those of the top-level `prompts`."""
    arms: list[Literal["raw", "stage1", "sspo", "refiner", "refiner+sspo", "reference"]] = field(
        default_factory=lambda: ["raw", "sspo", "refiner", "refiner+sspo", "reference"]  # type: ignore[arg-type]
    )
    """Arms; `stage1` needs a `graph`, `sspo` is the best of `stage2.rounds` rounds, `reference` needs a `reference` column."""
    metric: Component = field(default_factory=Component)
    """The verifier whose score is reported; better not one that the loop listened to."""
    limit: int = 0
    """Number of prompts, from the start of the file; 0 takes all."""
    seed: int = 1000
    """Seed of the videos, the same in every arm and other than the loop's."""


@dataclass
class Recipe:
    """One run for one text-to-video model."""

    name: str = "run"
    """Name of the run; its folder is `runs/<name>` if `--out` does not say otherwise."""
    seed: int = 0
    """Seed of videos, sampling and training."""
    prompts: str = ""
    """Prompts to collect on: txt (one a line), csv, parquet or a dataset's folder.

    Columns `prompt`, optional `phys_law` and `reference`.
    """
    limit: int = 0
    """Number of prompts, from the start of the file; 0 takes all."""
    video_model: Component = field(default_factory=Component)
    """The text-to-video model."""
    language_model: Component = field(default_factory=Component)
    """The language model that checks, rewrites and, with an adapter, refines."""
    vision_language_model: Component = field(default_factory=Component)
    """The vision-language model; empty where verifiers write the critique."""
    embedder: Component = field(default_factory=Component)
    """The sentence embedder."""
    graph: str = ""
    """Folder of the relation graph of stage 1."""
    residency: Literal["resident", "swap"] = "resident"
    """`resident` keeps all models on the device, `swap` only the one in use, moved once per phase and batch."""
    stage1: Stage1 = field(default_factory=Stage1)
    """Retrieval, augmentation, rewriting and choice before the first video."""
    stage2: Stage2 = field(default_factory=Stage2)
    """The closed loop."""
    stage3: Stage3 = field(default_factory=Stage3)
    """Fine-tuning."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Anything that `lightning.Trainer` takes, for all stages: `devices`, `precision` (of stage 3), `max_time`, `profiler`,
    `logger` and `callbacks` by `class_path`, ..."""
    evaluation: Evaluation = field(default_factory=Evaluation)
    """Evaluation."""

    def row_hash(self) -> str:
        """Hash of everything that can change a trajectory row, and of nothing else (16 hex digits).

        Batch sizes, devices and whether videos are saved do not change a row; stage 1 does where the loop starts from it.
        """
        stage2 = asdict(self.stage2)
        for name in ("batch_size", "save_videos", "start"):
            del stage2[name]
        models = [self.video_model, self.language_model, self.vision_language_model, self.embedder]
        parts = [strip_layout([named(model) for model in models]), strip_layout(stage2), self.seed]
        if self.stage2.start == "stage1":
            parts.append(self.align_hash())
        return digest(parts)

    def align_hash(self) -> str:
        """Hash of everything that can change a row of stage 1 (16 hex digits).

        The contents of graph, rewriter and discriminator are part of it.
        """
        stage1 = asdict(self.stage1)
        for name in ("batch_size", "extractor", "degrader", "captions", "degradations", "rewriter", "discriminator"):
            del stage1[name]
        files = [fingerprint(path) for path in (self.graph, self.stage1.rewriter, self.stage1.discriminator)]
        models = [named(self.language_model), named(self.embedder)]
        return digest([strip_layout(models), strip_layout(stage1), files, self.seed])


def named(model: Component) -> dict[str, Any]:
    """A component's class and arguments; having no arguments and an empty dict of them are the same."""
    return {"class_path": model.get("class_path", ""), "init_args": model.get("init_args", {})}


def digest(parts: list[Any]) -> str:
    """Hash of nested settings (16 hex digits)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


LAYOUT_ARGUMENTS = ("batch_size", "device", "workers")
"""Constructor arguments that say how fast something is computed, not what."""


def strip_layout(value: Any) -> Any:
    """A copy of nested settings without `LAYOUT_ARGUMENTS`."""
    if isinstance(value, dict):
        return {key: strip_layout(item) for key, item in value.items() if key not in LAYOUT_ARGUMENTS}
    if isinstance(value, list):
        return [strip_layout(item) for item in value]
    return value
