"""A training that begins with an adapter that is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.stage3.test_engines import finetune, logged, recipe  # noqa: F401


@pytest.mark.parametrize("engine", ["lightning", "trl"])
def test_a_training_begins_with_an_adapter(engine: str, recipe: Path, tmp_path: Path) -> None:  # noqa: F811
    assert finetune(recipe, tmp_path / "first", "sft", engine) == 0
    start = ("--stage3.lora.start", str(tmp_path / "first/refiner"))
    assert finetune(recipe, tmp_path / "second", "sft", engine, *start, "--stage3.epochs", "1") == 0
    # In its first step it knows what the first training has learned.
    words = [(tmp_path / name / "refiner/vocabulary.txt").read_text().split() for name in ("first", "second")]
    assert set(words[0]) <= set(words[1])
    assert "begun with the adapter of" in (tmp_path / "second/refiner/README.md").read_text()
    fresh, went_on = (logged(tmp_path / name, "train_loss_step") for name in ("first", "second"))
    assert went_on[0] < 0.5 * (fresh[0] + fresh[-1])
    assert finetune(recipe, tmp_path / "dpo", "dpo", engine, *start, "--stage3.dpo.epochs", "1") == 0
    # The reference is what it begins with, so the first loss is log 2; without it the base would be the reference.
    assert logged(tmp_path / "dpo", "train_loss_step")[0] == pytest.approx(0.6931472, rel=1e-5)


def test_another_start_is_another_training(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    run = tmp_path / "run"
    assert finetune(recipe, run, "sft", "lightning", "--stage3.epochs", "1") == 0
    start = tmp_path / "start"
    (run / "refiner").rename(start)
    begun = ("--stage3.epochs", "1", "--stage3.lora.start", str(start))
    assert finetune(recipe, run, "sft", "lightning", *begun) == 0
    assert len(list((run / "checkpoints").iterdir())) == 2
    assert finetune(recipe, run, "sft", "lightning", *begun) == 0
    assert "This training is done" in capsys.readouterr().out


def test_a_start_that_does_not_fit_is_said_before_a_model_is_loaded(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    assert finetune(recipe, tmp_path / "first", "sft", "lightning", "--stage3.epochs", "1") == 0
    from rapo_lightning.stage3 import run

    monkeypatch.setattr(run, "load_causal_model", None)
    start = ["--stage3.lora.start", str(tmp_path / "first/refiner")]
    for options, message in (
        ([*start, "--stage3.lora.r", "3"], "instead of 3; set them alike"),
        ([*start, "--stage3.lora.variant", "dora"], "with variant lora instead of dora"),
        ([*start, "--stage3.lora.target_modules", "[q_proj]"], "instead of ['q_proj']"),
        (["--stage3.lora.start", str(tmp_path / "none")], "A refiner is a folder with refiner.yaml and a PEFT adapter"),
    ):
        assert finetune(recipe, tmp_path / "second", "sft", "lightning", *options) == 2
        assert message in capsys.readouterr().err
    assert finetune(recipe, tmp_path / "second", "reward", "trl", *start) == 2
    assert "a reward model begins with a fresh one" in capsys.readouterr().err


def test_a_damaged_start_is_said(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    assert finetune(recipe, tmp_path / "first", "sft", "lightning", "--stage3.epochs", "1") == 0
    start = tmp_path / "first/refiner"
    weights, config = start / "adapter_model.safetensors", start / "adapter_config.json"
    whole, settings = load_file(weights), json.loads(config.read_text())
    name = min(whole)
    for changed, message in (
        ({**whole, name: torch.cat([whole[name]] * 2)}, f"whose {name} does not fit"),
        ({**whole, name: whole[name] * torch.nan}, f"must have finite weights. Got {start} with {name}"),
    ):
        save_file(changed, weights)
        assert finetune(recipe, tmp_path / "second", "sft", "lightning", "--stage3.lora.start", str(start)) == 2
        assert message in capsys.readouterr().err
    for targets, message in ((5, "Got 5 as target_modules"), (".*q_proj", "target_modules .*q_proj instead of")):
        config.write_text(json.dumps({**settings, "target_modules": targets}))
        assert finetune(recipe, tmp_path / "second", "sft", "lightning", "--stage3.lora.start", str(start)) == 2
        assert message.removeprefix("Got ") in capsys.readouterr().err
