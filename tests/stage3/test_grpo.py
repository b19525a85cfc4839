"""GRPO: what it is rewarded for rises, groups hold unrefined requests, and a reward that fails is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from rapo_lightning import Refiner
from rapo_lightning.cli import main
from rapo_lightning.collection.video_reward import VideoReward
from rapo_lightning.errors import RunError
from rapo_lightning.models import ModelPool
from rapo_lightning.models.causal_model import load_causal_model
from rapo_lightning.prompting.answers import Refined
from rapo_lightning.recipe import Recipe
from rapo_lightning.recipe.files import load_recipe
from rapo_lightning.recipe.objectives import Grpo
from rapo_lightning.running.pool import open_pool
from rapo_lightning.stage3.engines.trl.grpo import Answers
from rapo_lightning.stage3.rewards import Faithfulness, Length, RewardTools, Service, Usable, WeightedRewards
from tests.helpers import Letters, WordEmbedder, tiny_recipe
from tests.stage3.runs import write_rounds
from tests.stage3.test_finetune import ALLOW, same_adapter

LETTERS: dict[str, Any] = {"reward": "tests.helpers.Letters"}
TOOLS = RewardTools(Recipe(), Path("."), ModelPool(embedder=WordEmbedder()))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    changes: dict[str, Any] = {
        "stage3__objective": "grpo", "stage3__optimizer": {"batch_size": 16, "micro_batch_size": 16},
        "stage3__grpo": {"rewards": [LETTERS], "group": 8, "unrefined": 2, "epochs": 4, "lr": 0.05, "beta": 0.0},
        "stage3__sampling": {"temperature": 0.0, "max_new_tokens": 8}, "stage3__lora": {"r": 8, "alpha": 16},
    }  # fmt: skip
    return tiny_recipe(tmp_path_factory.mktemp("recipe"), language_model, **changes)


def finetune(recipe: Path, folder: Path, *options: str) -> int:
    if not folder.exists():
        folder.mkdir()
        write_rounds(folder, recipe, prompts=18)
    return main(
        ["finetune", str(recipe), "--out", str(folder), "--trainer.enable_progress_bar", "false", *options, *ALLOW]
    )


def logged(folder: Path, name: str) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def test_what_is_rewarded_rises_and_the_refiner_does_it(recipe: Path, tmp_path: Path) -> None:
    assert finetune(recipe, tmp_path / "run") == 0
    held_out = logged(tmp_path / "run", "val_reward")
    assert len(held_out) == 5
    assert max(held_out[1:]) > held_out[0] + 0.1
    with next((tmp_path / "run/logs").glob("*/answers.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * len({row["request"] for row in rows})
    refine = Refiner.from_pretrained(tmp_path / "run/refiner")
    best = max(range(5), key=lambda place: held_out[place])
    (last,) = [row for row in rows if row["request"] == rows[0]["request"] and int(row["step"]) == best * 7]
    assert refine(last["request"]) == last["prompt"]


def test_it_goes_on_exactly(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seven steps an epoch and two validations before: it is cut off in the second epoch.
    options = ["--stage3.checkpoint_steps", "1", "--stage3.grpo.epochs", "2"]
    assert finetune(recipe, tmp_path / "whole", *options) == 0
    asked, calls = Letters.rewards, {"left": 13}

    def plug_pulled(self: Letters, refined: Any, tools: object) -> list[float]:
        calls["left"] -= 1
        if not calls["left"]:
            raise KeyboardInterrupt
        return asked(self, refined, tools)

    with monkeypatch.context() as patch:
        patch.setattr(Letters, "rewards", plug_pulled)
        assert finetune(recipe, tmp_path / "cut", *options) == 1
    assert list((tmp_path / "cut/checkpoints").glob("*/checkpoint-*"))
    assert finetune(recipe, tmp_path / "cut", *options) == 0
    assert same_adapter(tmp_path / "whole", tmp_path / "cut")
    assert logged(tmp_path / "cut", "train_reward") == logged(tmp_path / "whole", "train_reward")


def test_some_of_a_group_are_the_request_and_are_not_trained_on(language_model: Path) -> None:
    model, tokenizer = load_causal_model(str(language_model), "float32")

    class Trainer:
        model_wrapped = model

        class accelerator:
            unwrap_model = staticmethod(lambda given: given)

            @staticmethod
            def autocast() -> Any:
                import contextlib

                return contextlib.nullcontext()

    answers = Answers(tokenizer, Grpo(group=4, unrefined=1), 6, WeightedRewards([], TOOLS))
    prompts = [[{"role": "user", "content": text}] for text in ("a ball", "a square") for _ in range(4)]
    made = answers.rollout(prompts, Trainer)
    texts = tokenizer.batch_decode(made["completion_ids"], skip_special_tokens=True)
    masks = made["env_mask"]
    for place, mask in enumerate(masks):
        assert len(mask) == len(made["completion_ids"][place])
        if place % 4 == 3:
            assert not any(mask)
            assert prompts[place][0]["content"].startswith(texts[place])
        else:
            assert all(mask)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "The reward `letters` raised ZeroDivisionError: no videos. Correct it"),
        ("nan", "The reward `letters` must give finite numbers. Got none for"),
        ("few", "must give one number for each of"),
    ],
)
def test_a_reward_that_fails_is_named(
    how: str, message: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewards = json.dumps([{"reward": "tests.helpers.BadReward", "how": how}])
    assert finetune(recipe, tmp_path / "run", "--stage3.grpo.rewards", rewards) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage3.grpo.group", "3"], "two answers beside the unrefined ones"),
        (["--stage3.grpo.group", "5"], "must be a multiple of `stage3.grpo.group`. Got 16 and 5"),
        (["--stage3.optimizer.batch_size", "320"], "takes 40 requests a step"),
        (["--stage3.grpo.rewards", "[]"], "must name at least one reward"),
        (["--stage3.grpo.rewards", "[{reward: length, weight: .nan}]"], "and a finite weight. Got"),
        (
            ["--stage3.grpo.rewards", "[{reward: beauty}]"],
            "with one of faithfulness, length, usable, model, service, video",
        ),
        (["--stage3.grpo.rewards", "[{reward: faithfulness, by: reader}]"], "Got a recipe without `stage3.reader`"),
        (["--stage3.grpo.rewards", "[{reward: service, url: nowhere}]"], "needs an http(s) url"),
        (["--stage3.engine", "lightning"], "one that trains grpo: trl. Got 'lightning'"),
    ],
)
def test_what_cannot_be_is_said_before_a_model_is_loaded(
    options: list[str], message: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from rapo_lightning.stage3 import run

    monkeypatch.setattr(run, "load_causal_model", None)
    assert finetune(recipe, tmp_path / "run", *options) == 2
    assert message in capsys.readouterr().err


def test_rewards_of_texts() -> None:
    good = Refined(
        "a red ball", "A red ball rolls over green grass in the sun, slowly and smoothly, to the right side."
    )
    short, failed = Refined("a red ball", "ball"), Refined("a red ball", "a red ball", "empty")
    near, far = Faithfulness().rewards([good, Refined("a red ball", "two blue squares")], TOOLS)
    assert near > far
    assert Length(least=10, most=20).rewards([good, short], TOOLS) == [1.0, 0.1]
    assert Length(least=2, most=10).rewards([good], TOOLS) == pytest.approx([10 / 17])
    assert Usable().rewards([good, failed], TOOLS) == [1.0, 0.0]
    both = WeightedRewards([(Usable(), 2.0), (Length(least=10), 1.0)], TOOLS)
    assert both.total(both.each([good, short])) == [3.0, pytest.approx(2.1)]


def test_a_service_is_asked_again_and_named_if_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [httpx.Response(503), httpx.Response(200, json={"rewards": [0.25]})]
    asked: list[dict[str, Any]] = []

    def post(url: str, json: dict[str, Any], timeout: float) -> httpx.Response:
        asked.append(json)
        answer = answers.pop(0)
        answer.request = httpx.Request("POST", url)
        return answer

    monkeypatch.setattr(httpx, "post", post)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    service, refined = Service("http://127.0.0.1:1"), [Refined("a ball", "a red ball")]
    assert service.rewards(refined, TOOLS) == [0.25]
    assert asked == [{"requests": ["a ball"], "prompts": ["a red ball"]}] * 2
    answers += [httpx.Response(200, text="no json")] * 4
    with pytest.raises(RunError, match=r"must answer .* after 4 tries"):
        service.rewards(refined, TOOLS)


def test_videos_reward_and_are_made_once(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe)
    models = open_pool(loaded, ["video_model", "embedder"])
    tools = RewardTools(loaded, tmp_path, models)
    refined = [Refined("a red ball falls", "a red ball falls"), Refined("a red ball falls", "a blue square rolls")]
    first = VideoReward(seeds=2).rewards(refined, tools)
    assert len(first) == 2
    assert all(0 <= value <= 1 for value in first)
    lines = [line for path in (tmp_path / "records").glob("generations*") for line in path.read_text().splitlines()]
    assert len(lines) == 4
    generate = models.video.generate

    def refuse(*rest: Any) -> Any:
        raise AssertionError("made again")

    models.video.generate = refuse  # type: ignore[method-assign]
    assert VideoReward(seeds=2).rewards(refined, tools) == first
    models.video.generate = generate  # type: ignore[method-assign]
    assert len(VideoReward(seeds=1).rewards([Refined("a ball", "a green ball swings")], tools)) == 1
