"""What the tests of an evaluation share: its arms, and what it loads and makes."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DiffusionPipeline
from transformers import AutoModelForCausalLM

from rapo_lightning.models import DiffusersVideoModel

ALLOW = ("--allow_package", "tests")
ALL_ARMS = ["raw", "reference", "chance", "style", "words", "stage1", "plain", "refiner", "sspo", "refiner+sspo", "raw_best",
            "blind"]  # fmt: skip
SHOWN = [*ALL_ARMS[:8], "sspo@2", "refiner+sspo@2", "raw@2", "blind@2"]


def counting(monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], list[str]]:
    loads: Counter[str] = Counter()
    made: list[str] = []
    for kind in (DiffusionPipeline, AutoModelForCausalLM):
        load = kind.from_pretrained

        def count(path: Any, *args: Any, _load: Any = load, _kind: Any = kind, **options: Any) -> Any:
            loads[f"{_kind.__name__} {Path(str(path)).name}"] += 1
            return _load(path, *args, **options)

        monkeypatch.setattr(kind, "from_pretrained", count)
    generate = DiffusersVideoModel.generate

    def noting(self: DiffusersVideoModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        made.extend(prompts)
        return generate(self, prompts, seeds)

    monkeypatch.setattr(DiffusersVideoModel, "generate", noting)
    return loads, made


def scores(folder: Path) -> dict[str, list[str]]:
    lines = list(csv.DictReader((folder / "scores.csv").open()))
    return {name: [line[name] for line in lines] for name in lines[0]}
