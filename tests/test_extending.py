"""The code of docs/extending.md, put into a package of a user's own and run from a recipe."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.data.videos import read_video
from rapo_lightning.models import ModelPool
from rapo_lightning.models.usage import metered
from rapo_lightning.prompting.answers import Refined
from rapo_lightning.recipe import Recipe, Stage3, components
from rapo_lightning.recipe.objectives import Grpo
from rapo_lightning.recipe.pairs import build_filters, build_reader, build_rewards
from rapo_lightning.stage3.pairs import Context
from rapo_lightning.stage3.pairs.funnel import select
from rapo_lightning.stage3.rewards import RewardTools, WeightedRewards
from tests.helpers import ROOT, run_cli, tiny_recipe
from tests.stage3.pairs.rounds import candidates, trajectory

TEXT = (ROOT / "docs/extending.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
YAML = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "your_package.py").write_text("\n\n".join(PYTHON))
    return folder


def named(key: str) -> dict:  # type: ignore[type-arg]
    """The section of the first YAML block that has it and names the user's package."""
    return next(block[key] for block in YAML if key in block and "your_package" in str(block))


def test_a_users_own_classes_run_from_a_recipe(package: Path, language_model: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        tmp_path, language_model, limit=2, video_model=named("video_model"), stage2__rounds=2,
        stage2__verifiers=named("stage2")["verifiers"], embedder={"class_path": "tests.helpers.WordEmbedder"},
        evaluation__baselines=named("evaluation")["baselines"], evaluation__arms=["raw", "shout"], evaluation__limit=2,
        evaluation__metric={"class_path": "your_package.Brightness"}, evaluation__seed=5,
        stage3__pairs=named("stage3")["pairs"], stage3__reader=named("stage3")["reader"],
    )  # fmt: skip
    out = tmp_path / "run"
    allowed = ("--allow_package", "your_package", "--allow_package", "tests")
    for command in ("validate", "collect", "evaluate"):
        folder = () if command == "validate" else ("--out", str(out))
        done = run_cli(command, str(recipe), *folder, *allowed, path=str(package))
        assert done.returncode == 0, done.stderr
    rows = read_rows(out / "trajectories")
    assert len(rows) == 4
    for row in rows:
        assert row["video_model"] == "square"
        assert 0 < row["score_brightness"] < 1
        assert 0 <= row["score_nearness"] <= 1
        assert "right at" in row["motion"]
        frames = read_video(out / row["video"])
        # What `Square.generate` says of this row's prompt and seed, but for what an mp4 loses.
        top, bright = 10 + row["seed"] % 30, min(255, 120 + len(row["prompt"]))
        assert frames.shape == (17, 64, 64, 3)
        assert abs(float(frames[3, top + 4 : top + 16, 10:22].mean()) - bright) < 4
        assert abs(float(frames[3, :, 40:].mean()) - 60) < 4
    assert set(json.loads((out / "results.json").read_text())["arms"]) == {"raw", "shout"}


def test_without_leave_nothing_of_it_runs(package: Path, language_model: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, language_model, video_model=named("video_model"))
    done = run_cli("validate", str(recipe), "--allow_package", "tests", path=str(package))
    assert done.returncode == 2
    assert "--allow_package your_package" in done.stderr


def test_a_users_filter_and_reader_choose_pairs(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.setattr(components, "ALLOWED_PACKAGES", ["your_package"])
    stage3 = Stage3(**named("stage3"))
    rows = trajectory("a ball", (0.1, 0.1), (0.9, 0.9), texts=["a ball. It rolls."])
    rows += trajectory("a cube", (0.1, 0.1), (0.9, 0.9), texts=["a cube rolls."])
    rows += trajectory("a cone", (0.1, 0.1), (0.9, 0.9), texts=["a ball rolls."])
    steps = select(candidates(rows), build_filters(stage3), Context(reader=build_reader(stage3)))
    assert [(step.name, [item.request for item in step.kept]) for step in steps[2:]] == [
        ("one_sentence", ["a cone", "a cube"]), ("named_right", ["a cube"]),
    ]  # fmt: skip


def test_every_block_of_code_runs(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package))
    names: dict[str, object] = {}
    with metered() as calls:
        for block in PYTHON:
            exec(compile(block, "docs/extending.md", "exec"), names)
    assert [call.completion_tokens for call in calls] == [42]
    assert {"Brightness", "Nearness", "Square", "Shout", "OneSentence", "WordReader"} <= set(names)


def test_a_users_reward_rewards(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.setattr(components, "ALLOWED_PACKAGES", ["your_package"])
    grpo = next(block["stage3"]["grpo"] for block in YAML if "grpo" in block.get("stage3", {}))
    rewards = WeightedRewards(build_rewards(Stage3(grpo=Grpo(**grpo)))[:1], RewardTools(Recipe(), package, ModelPool()))
    assert rewards.each([Refined("x", "word " * 60), Refined("x", "word")]) == {"short": [0.5, 1.0]}
