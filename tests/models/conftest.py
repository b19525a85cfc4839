from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny_loras, tiny_models
from tests.tiny_loras import FILE


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_loras.wan_lora(tmp_path_factory.mktemp("lora"), FILE)
