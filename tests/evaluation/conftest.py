"""A recipe with every arm, and a run with a refiner."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rapo_lightning.cli import main
from relation_graph import build_graph, save_graph
from tests.evaluation.arms import ALL_ARMS, ALLOW
from tests.helpers import WordEmbedder, tiny_recipe
from tests.stage3.runs import write_rounds


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    rows = folder / "rows.csv"
    rows.write_text("Input,verb_obj_word,scenario_word,place\n1,['rolling along'],['calm'],in a dungeon\n")
    save_graph(build_graph([rows], WordEmbedder())[0], folder / "graph")
    return tiny_recipe(
        folder,
        language_model,
        graph=str(folder / "graph"),
        stage1={"instruct": {"max_new_tokens": 4}, "merge": {"max_new_tokens": 4}},
        stage2__rounds=2,
        stage3__epochs=1,
        evaluation__arms=ALL_ARMS,
        evaluation__limit=2,
        evaluation__seeds=2,
        evaluation__baselines={
            "style": {
                "class_path": "rapo_lightning.evaluation.baselines.StyleFrame",
                "init_args": {"prefix": "A video of ", "suffix": "."},
            },
            "words": {"class_path": "rapo_lightning.lab.baselines.Dictionary"},
        },
        evaluation__variants={"plain": {"stage1.threshold": 1.0}},
    )


@pytest.fixture(scope="module")
def trained(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_rounds(tmp_path_factory.mktemp("trained"), recipe)
    assert main(["finetune", str(recipe), "--out", str(folder), *ALLOW]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))
