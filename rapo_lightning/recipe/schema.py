"""The typed recipe: everything a run depends on, read from YAML in one place.

Each field's docstring says what it is and whether its default is the paper's (RAPO++, arXiv:2510.20206), another
work's, or ours.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Literal

from .evaluation import Evaluation
from .secrets import refuse_secrets
from .stages import Component, Stage1, Stage2
from .training import Stage3


@dataclass
class Recipe:
    """One run for one text-to-video model."""

    name: str = "run"
    """Name of the run; its folder is `runs/<name>` if `--out` does not say otherwise."""
    seed: int = 0
    """Seed of videos, sampling and training."""
    prompts: str = ""
    """Prompts to collect on: txt (one a line), csv, parquet or a dataset's folder.

    Columns `prompt`, optional `phys_law`, `reference` and `group`.
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
    """Folder of the relation graph of stage 1; empty leaves retrieval and augmentation out, where there is a rewriter."""
    allow_other_base: bool = False
    """Whether refiners and fine-tuned rewriters may stand on another base than the one they were trained on, such as a
    quantized copy: one of another name, or with other weights."""
    residency: Literal["resident", "swap", "offload"] = "resident"
    """`resident` keeps all models on the device; `swap` only the one in use, moved once per phase and batch, and of a pipeline
    of diffusers the text encoder apart from the others; `offload` as `swap`, but of such a pipeline's transformer and text
    encoder only the blocks that are being computed. `validate` says what fits."""
    stage1: Stage1 = field(default_factory=Stage1)
    """Retrieval, augmentation, rewriting and choice before the first video."""
    stage2: Stage2 = field(default_factory=Stage2)
    """The closed loop."""
    stage3: Stage3 = field(default_factory=Stage3)
    """Fine-tuning."""
    # Bare: for `dict[str, Any]` jsonargparse would build the callbacks itself, before anything about them is checked.
    trainer: dict = field(default_factory=dict)
    """Anything that `lightning.Trainer` takes, for all stages: `devices`, `num_nodes`, `precision` (of stage 3), `strategy`
    (`ddp`, or for stage 3 `fsdp2`, which shards the base), `max_time`, `profiler`, `logger` and `callbacks` by `class_path`, ..."""
    evaluation: Evaluation = field(default_factory=Evaluation)
    """Evaluation."""

    def __post_init__(self) -> None:
        """Checks the name, which becomes a folder, and that the recipe holds no secret."""
        refuse_secrets(asdict(self))
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(
                "`name` must be a plain folder name of letters, digits, '.', '_' and '-', which does not begin with a dot. "
                f"Got {self.name!r}; use `--out` to put the run elsewhere."
            )
        if self.limit < 0:
            raise ValueError(f"`limit` must be 0 (all prompts) or more. Got {self.limit}.")
