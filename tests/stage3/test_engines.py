"""Every objective with every engine that trains it: the same losses, an adapter that plugs back, exact resume."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import Trainer

from rapo_lightning import Refiner
from rapo_lightning.cli import main
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models import RewardModel
from rapo_lightning.prompting.answers import Refined
from rapo_lightning.recipe.files import load_recipe
from rapo_lightning.stage3.engines.trl.callbacks import WHOLE
from rapo_lightning.stage3.engines.trl.trainers import Validated
from rapo_lightning.stage3.pairs import load_pairs
from rapo_lightning.stage3.rewards import Model
from tests.helpers import tiny_recipe
from tests.stage3.runs import write_rounds
from tests.stage3.test_finetune import ALLOW, contents, same_adapter

QUIET = ("--trainer.enable_progress_bar", "false", *ALLOW)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    """The tiny recipe without dropout, with rates at which a tiny model learns."""
    changes: dict[str, Any] = {
        "stage3__lora__dropout": 0.0, "stage3__epochs": 5, "stage3__dpo": {"lr": 0.01, "epochs": 5},
        "stage3__kto": {"lr": 0.01}, "stage3__optimizer__batch_size": 4, "stage3__optimizer__micro_batch_size": 2,
    }  # fmt: skip
    return tiny_recipe(tmp_path_factory.mktemp("recipe"), language_model, **changes)


def finetune(recipe: Path, folder: Path, objective: str, engine: str, *options: str, prompts: int = 19) -> int:
    """19 prompts leave 15 for training: the last step of an epoch has a micro-batch of two pairs and one of one."""
    if not folder.exists():
        folder.mkdir()
        write_rounds(folder, recipe, prompts=prompts)
    command = ["finetune", str(recipe), "--out", str(folder), "--stage3.objective", objective]
    return main([*command, "--stage3.engine", engine, *options, *QUIET])


def logged(folder: Path, name: str) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.parametrize("objective", ["sft", "weighted_sft", "dpo"])
def test_both_engines_have_the_same_losses(objective: str, recipe: Path, tmp_path: Path) -> None:
    losses, validation = {}, {}
    for engine in ("lightning", "trl"):
        assert finetune(recipe, tmp_path / engine, objective, engine) == 0
        losses[engine] = logged(tmp_path / engine, "train_loss_step")
        validation[engine] = [logged(tmp_path / engine, name) for name in ("val_loss", "val_preference")]
        refine = Refiner.from_pretrained(tmp_path / engine / "refiner")
        assert refine.answers(["a ball"])[0]
    assert len(losses["trl"]) == 20
    # They go down, so that being equal says something.
    assert losses["trl"][-1] < 0.99 * losses["trl"][0]
    assert losses["lightning"] == pytest.approx(losses["trl"], rel=1e-4)
    for lightning, trl in zip(validation["lightning"], validation["trl"], strict=True):
        assert len(trl) == 5
        assert lightning == pytest.approx(trl, rel=1e-4)


def test_dpo_goes_on_with_the_adapter_of_sft_and_compares_with_it(recipe: Path, tmp_path: Path) -> None:
    for engine in ("lightning", "trl"):
        assert finetune(recipe, tmp_path / engine, "sft+dpo", engine, "--stage3.epochs", "1") == 0
        with (tmp_path / engine / "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["train_loss_step"]]
        assert {row["phase"] for row in rows} == {"1", "2"}
        # Before the first step the model is its own reference: log 2.
        first = next(row for row in rows if row["phase"] == "2")
        assert float(first["train_loss_step"]) == pytest.approx(0.6931472, rel=1e-5)
        card = (tmp_path / engine / "refiner/README.md").read_text()
        assert "sft for 1 epochs at a peak learning rate of 0.01, then dpo for 5 epochs" in card
    assert logged(tmp_path / "trl", "train_loss_step") == pytest.approx(
        logged(tmp_path / "lightning", "train_loss_step"), rel=1e-4
    )
    assert Refiner.from_pretrained(tmp_path / "trl/refiner").answers(["a ball"])[0]


def test_kto_trains_a_refiner(recipe: Path, tmp_path: Path) -> None:
    assert finetune(recipe, tmp_path / "run", "kto", "auto", "--stage3.kto.epochs", "3") == 0
    losses = logged(tmp_path / "run", "train_loss_step")
    assert losses[-1] < losses[0]
    assert Refiner.from_pretrained(tmp_path / "run/refiner").answers(["a ball"])[0]


@pytest.mark.parametrize("left", [6, 13])
def test_a_training_by_trl_goes_on_exactly(
    left: int, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = "sft+dpo"
    options = ["--stage3.checkpoint_steps", "1", "--stage3.epochs", "1", "--stage3.lora.dropout", "0.1",
               "--stage3.dpo.epochs", "1"]  # fmt: skip
    assert finetune(recipe, tmp_path / "whole", objective, "trl", *options) == 0
    # Of 16 micro-batches, the last 8 of which are those of dpo.
    step, count = Trainer.training_step, {"left": left}

    def plug_pulled(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        count["left"] -= 1
        if not count["left"]:
            raise KeyError("no power")
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", plug_pulled)
        with pytest.raises(KeyError, match="no power"):
            finetune(recipe, tmp_path / "cut", objective, "trl", *options)
    checkpoints = sorted((tmp_path / "cut/checkpoints").glob("*/checkpoint-*"))
    assert checkpoints
    # The latest one was cut off while it was written: the one before counts.
    (max(checkpoints, key=lambda path: path.stat().st_mtime) / WHOLE).unlink()
    assert finetune(recipe, tmp_path / "cut", objective, "trl", *options) == 0
    assert same_adapter(tmp_path / "whole", tmp_path / "cut")
    before = contents(tmp_path / "cut")
    assert finetune(recipe, tmp_path / "cut", objective, "trl", *options) == 0
    assert contents(tmp_path / "cut") == before


@pytest.mark.parametrize("cut", [1, 2])
def test_a_training_by_trl_that_is_cut_off_in_its_validation_validates_again(
    cut: int, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--stage3.checkpoint_steps", "1", "--stage3.epochs", "2"]
    assert finetune(recipe, tmp_path / "whole", "sft", "trl", *options, prompts=10) == 0
    evaluate, count = Validated.evaluate, {"left": cut}

    def plug_pulled(self: Any, *args: Any, **kwargs: Any) -> Any:
        count["left"] -= 1
        if not count["left"]:
            raise KeyError("no power")
        return evaluate(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Validated, "evaluate", plug_pulled)
        with pytest.raises(KeyError, match="no power"):
            finetune(recipe, tmp_path / "cut", "sft", "trl", *options, prompts=10)
    assert finetune(recipe, tmp_path / "cut", "sft", "trl", *options) == 0
    assert logged(tmp_path / "cut", "val_loss") == logged(tmp_path / "whole", "val_loss")
    assert same_adapter(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("engine", ["lightning", "trl"])
def test_one_pair_has_nothing_to_end_early_by(engine: str, recipe: Path, tmp_path: Path) -> None:
    options = ["--stage3.patience", "1", "--stage3.epochs", "2", "--stage3.optimizer.micro_batch_size", "1"]
    assert finetune(recipe, tmp_path / "run", "sft", engine, *options, prompts=1) == 0
    assert "not measured (epoch 2, the best of 2)" in (tmp_path / "run/refiner/README.md").read_text()


def test_a_training_ends_early_and_keeps_its_best(recipe: Path, tmp_path: Path) -> None:
    options = ["--stage3.best_by", "val_preference", "--stage3.patience", "1"]
    for engine in ("lightning", "trl"):
        assert finetune(recipe, tmp_path / engine, "dpo", engine, *options) == 0
        figures = logged(tmp_path / engine, "val_preference")
        assert len(figures) < 5
        assert figures[-1] <= figures[-2]
        best = 1 + figures.index(max(figures))
        assert f"(epoch {best}, the best of 5)" in (tmp_path / engine / "refiner/README.md").read_text()


@pytest.mark.parametrize(
    ("objective", "engine", "options", "message"),
    [
        ("kto", "lightning", (), "one that trains kto: trl. Got 'lightning'"),
        ("reward", "lightning", (), "one that trains reward: trl. Got 'lightning'"),
        ("ppo", "auto", (), "must be one of sft, weighted_sft, dpo, kto, reward"),
        ("dpo+sft", "auto", (), "Got 'dpo+sft'; name one objective, or two such as sft+dpo"),
        ("kto", "auto", ("--stage3.optimizer.micro_batch_size", "1"), "raise it to 2 or more"),
        ("dpo", "auto", ("--stage3.dpo.beta", "0"), "beta=0.0"),
        (
            "dpo",
            "auto",
            ("--stage3.views.gap", "0.95"),
            "learns from requests with a round that the filters keep and a worse",
        ),
        ("kto", "auto", ("--stage3.views.bad", "0.01"), "Got 15 good and 0 bad ones"),
        ("kto", "auto", ("--stage3.best_by", "val_preference"), "Got the objective kto; take `val_loss`"),
        (
            "sft",
            "auto",
            ("--stage3.best_by", "val_preference", "--stage3.views.gap", "0.95"),
            "Got no held-out preferences",
        ),
        ("sft", "trl", ("--trainer.profiler", "simple"), "Got profiler; leave them out"),
        ("sft", "trl", ("--trainer.devices", "2"), "torchrun --nproc_per_node 2"),
    ],
)
def test_what_cannot_be_trained_is_said_before_a_model_is_loaded(
    objective: str, engine: str, options: tuple[str, ...], message: str, recipe: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert finetune(recipe, tmp_path / "run", objective, engine, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run/refiner").exists()


def test_a_reward_model_prefers_what_won_and_rewards_and_chooses_by_it(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--stage3.reward.epochs", "6", "--stage3.reward.lr", "0.02"]
    assert finetune(recipe, tmp_path / "run", "reward", "auto", *options) == 0
    assert not (tmp_path / "run/refiner").exists()
    assert logged(tmp_path / "run", "val_preference")[-1] == 1.0
    reward = RewardModel.from_pretrained(tmp_path / "run/reward")
    rows = load_pairs(load_recipe(recipe), tmp_path / "run").view("preference")["train"].to_list()
    pairs = [(row["prompt"][-1]["content"], row[side][0]["content"]) for side in ("chosen", "rejected") for row in rows]
    scores = reward.scores(pairs)
    right = [won > lost for won, lost in zip(scores[: len(rows)], scores[len(rows) :], strict=True)]
    assert sum(right) / len(right) > 0.9
    # However they are batched.
    assert reward(*pairs[0]) == pytest.approx(scores[0], rel=1e-3)
    found = Model(str(tmp_path / "run/reward")).rewards([Refined(*pairs[0])], None)  # type: ignore[arg-type]
    assert found == pytest.approx(scores[:1], rel=1e-3)
    before = contents(tmp_path / "run")
    assert finetune(recipe, tmp_path / "run", "reward", "auto", *options) == 0
    assert "This training is done: its reward model is in" in capsys.readouterr().out
    assert contents(tmp_path / "run") == before
    with pytest.raises(UserError, match="A reward model is a folder with reward.yaml"):
        RewardModel.from_pretrained(tmp_path)


def test_a_reward_model_without_its_weights_or_its_base_gives_no_numbers(recipe: Path, tmp_path: Path) -> None:
    assert finetune(recipe, tmp_path / "run", "reward", "auto", "--stage3.reward.epochs", "1") == 0
    folder = tmp_path / "run/reward"
    config, weights = folder / "reward.yaml", folder / "adapter_model.safetensors"
    whole, told = load_file(weights), config.read_text()
    first = min(whole)
    save_file({name: value for name, value in whole.items() if name != first}, weights)
    with pytest.raises(RunError, match=rf"finite weights for the layers.* with {first} on one side alone"):
        RewardModel.from_pretrained(folder).scores([("a", "b")])
    save_file(whole, weights)
    config.write_text(told.replace("base_identity: ", "base_identity: '0'  # "))
    with pytest.raises(UserError, match=r"was trained on other weights than .* instead of 0; fetch those"):
        RewardModel.from_pretrained(folder).scores([("a", "b")])
    config.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"A reward model is a folder with reward\.yaml"):
        RewardModel.from_pretrained(folder)


def test_validate_knows_what_an_engine_trains(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["validate", str(recipe), *ALLOW, "--stage3.engine", "lightning", "--stage3.objective"]
    assert main([*command, "sft+dpo"]) == 0
    rewards = ["--stage3.grpo.rewards", "[{reward: service, url: nowhere}]"]
    assert main([*command, "sft+grpo", *rewards]) == 2
    told = capsys.readouterr().err
    assert "one that trains grpo: trl. Got 'lightning'" in told
    assert "needs an http(s) url" in told
