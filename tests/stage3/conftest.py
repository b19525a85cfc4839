"""A tiny recipe and a run that was trained on it, once per module."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rapo_lightning.cli import main
from tests.helpers import tiny_recipe
from tests.stage3.runs import write_rounds

ALLOW = ("--allow_package", "tests")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("recipe"), language_model)


@pytest.fixture(scope="module")
def trained(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_rounds(tmp_path_factory.mktemp("logged"), recipe)
    assert main(["finetune", str(recipe), "--out", str(folder), *ALLOW]) == 0
    return folder


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, as if its folder had been moved."""
    shutil.copytree(trained, tmp_path / "moved")
    return tmp_path / "moved"
