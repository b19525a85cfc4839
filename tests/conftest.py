"""Fixtures: a tiny real language model, and the lab's rendered scenes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import docstring_parser
import numpy as np
import pytest

from rapo_lightning.lab.render import render_batch
from rapo_lightning.lab.scene import Scene, sample_scene
from rapo_lightning.recipe import components
from tests.helpers import tiny_language_model

# Every command's parser reads the docstrings of all recipe classes, for a second each time; while tests run they stay the same.
docstring_parser.parse_from_object = cache(docstring_parser.parse_from_object)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test go first: begun last, one would keep a process of pytest-xdist busy after the others have ended."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _allow_test_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "ALLOWED_PACKAGES", [*components.ALLOWED_PACKAGES, "tests"])


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama with two layers and a byte-level tokenizer."""
    return tiny_language_model(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="session")
def rendered() -> tuple[list[Scene], np.ndarray]:
    """200 held-out scenes and their true videos, `(200, 17, 64, 64, 3)`."""
    rng = np.random.default_rng(11)
    scenes = [sample_scene(rng, "heldout") for _ in range(200)]
    return scenes, render_batch(scenes, rng).permute(0, 1, 3, 4, 2).numpy()
