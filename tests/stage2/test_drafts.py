"""Draft rounds: cheaper videos first, the best draft's prompt in full, and rows that say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rapo_lightning.cli import main
from rapo_lightning.data.ranking import best_round
from rapo_lightning.data.trajectory import by_prompt, read_rows
from rapo_lightning.data.videos import read_video
from rapo_lightning.recipe.files import load_recipe
from rapo_lightning.recipe.identity import settings_hash
from tests import tiny_models
from tests.helpers import tiny_recipe

CALL = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 3, "max_sequence_length": 64}
DRAFT = {"rounds": 2, "call": {"num_inference_steps": 1, "height": 16, "width": 16}}
CONTRAST = {"class_path": "tests.test_wan21.Contrast"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe with two drafts of four rounds, and its run."""
    folder = tmp_path_factory.mktemp("drafts")
    (folder / "llm").mkdir()
    arguments = {"checkpoint": str(tiny_models.wan(folder / "wan")), "call": CALL, "dtype": "float32", "fps": 8.0,
                 "cache": {"kind": "first_block", "threshold": 0.5}}  # fmt: skip
    recipe = tiny_recipe(
        folder, tiny_models.qwen(folder / "llm"), video_model__init_args=arguments, limit=3, stage2__rounds=4,
        stage2__draft=DRAFT, stage2__verifiers=[CONTRAST], stage2__stop={"ceiling": {"contrast": 0.0}},
    )  # fmt: skip
    assert main(["collect", str(recipe), "--out", str(folder / "run"), "--allow_package", "tests"]) == 0
    return recipe, folder / "run"


def test_drafts_come_first_and_the_best_prompt_is_made_in_full(made: tuple[Path, Path]) -> None:
    rows = read_rows(made[1] / "trajectories")
    for rounds in by_prompt(rows).values():
        # Every video reaches the ceiling, but a draft ends nothing.
        assert [row["round"] for row in rounds] == [0, 1, 2]
        assert [row["ended"] for row in rounds] == ["", "", "ceiling"]
        assert [read_video(made[1] / row["video"]).shape[1] for row in rounds] == [16, 16, 32]
        assert rounds[2]["prompt"] == best_round(rounds[:2])["prompt"]
        assert len({row["video"] for row in rounds}) == 3


def test_rows_say_what_was_computed_otherwise(made: tuple[Path, Path]) -> None:
    said = {row["round"]: row["shortcuts"] for row in read_rows(made[1] / "trajectories")}
    cache = "cache kind=first_block, threshold=0.5"
    assert said[2] == cache
    assert said[0] == said[1] == f"{cache}; draft height=16, num_inference_steps=1, width=16"
    assert main(["report", str(made[1])]) == 0
    assert "<b>made with</b> cache kind=first_block" in (made[1] / "report/index.html").read_text()


def test_running_again_makes_nothing_new(made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in made[1].rglob("*.mp4")}
    assert main(["collect", str(made[0]), "--out", str(made[1]), "--allow_package", "tests"]) == 0
    assert "3 prompts, 3 already complete" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in made[1].rglob("*.mp4")} == before


def test_drafts_are_part_of_the_hash_and_none_is_not(made: tuple[Path, Path]) -> None:
    drafted, plain = load_recipe(made[0]), load_recipe(made[0])
    plain.stage2.draft.rounds, plain.stage2.draft.call = 0, {}
    assert settings_hash(drafted) != settings_hash(plain)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draft": {"rounds": 4, "call": {"height": 16}}}, "`stage2.draft.rounds` must be less than `stage2.rounds`"),
        ({"draft": {"rounds": 0}}, "`stage2.draft` needs rounds >= 1 and a `call`"),
    ],
)
def test_wrong_drafts_are_one_sentence(
    changes: dict[str, Any], message: str, made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--stage2.{key}={value}" for key, value in changes.items()]
    assert main(["validate", str(made[0]), "--allow_package", "tests", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_model_without_a_call_is_refused_before_it_loads(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"class_path": "tests.stage2.test_drafts.NoCall"}
    recipe = tiny_recipe(tmp_path, made[0].parent / "llm", video_model=other, stage2__draft=DRAFT)
    assert main(["collect", str(recipe), "--out", str(tmp_path / "run"), "--allow_package", "tests"]) == 2
    assert "`stage2.draft` needs a video model that takes other arguments for a call" in capsys.readouterr().err


class NoCall:
    """A user's video model."""

    name, fps, batch_size = "no-call", 8.0, 1

    def load(self) -> None:
        raise AssertionError("loaded")

    def to(self, device: object) -> None:
        raise AssertionError("moved")

    def generate(self, prompts: object, seeds: object) -> list[Any]:
        raise AssertionError("asked")
