"""FSDP2 on two processes: the losses, adapters and checkpoints of DDP, and each goes on with what the other saved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kills import descendants
from rapo_lightning.cli import main
from rapo_lightning.running.strategies import ShardedBase
from rapo_lightning.running.trainer import make_trainer, predict_trainer
from rapo_lightning.stage3 import run as command
from rapo_lightning.stage3.engines.lightning.checkpoints import read_checkpoint
from tests.helpers import ROOT, run_cli, tiny_recipe
from tests.stage3.runs import write_rounds
from tests.stage3.test_engines import logged
from tests.stage3.test_finetune import ALLOW, adapter

LIGHTNINGS = "lightning.pytorch.strategies.ModelParallelStrategy"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    """A recipe whose micro-batches of two pairs share their beginning, on two processes."""
    changes: dict[str, Any] = {
        "stage3__epochs": 2, "stage3__dpo": {"lr": 0.01, "epochs": 1}, "stage3__lora__dropout": 0.1,
        "stage3__checkpoint_steps": 1, "stage3__optimizer__batch_size": 4, "stage3__optimizer__micro_batch_size": 2,
        "trainer__devices": 2, "trainer__enable_progress_bar": False,
    }  # fmt: skip
    return tiny_recipe(tmp_path_factory.mktemp("recipe"), language_model, **changes)


def finetune(recipe: Path, folder: Path, strategy: str, *options: str) -> None:
    if not folder.exists():
        folder.mkdir()
        write_rounds(folder, recipe, prompts=19)
    command = ["finetune", str(recipe), "--out", str(folder), "--stage3.objective", "sft+dpo", *ALLOW]
    result = run_cli(*command, "--trainer.strategy", strategy, *options)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def sharded(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "sharded"
    finetune(recipe, folder, "fsdp2")
    return folder


@pytest.fixture(scope="module")
def copies(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "copies"
    finetune(recipe, folder, "ddp")
    return folder


def last_checkpoints(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: read_checkpoint(path) for path in (folder / "checkpoints").glob("*/last.ckpt")}


def test_losses_and_adapter_are_those_of_ddp(sharded: Path, copies: Path) -> None:
    for name in ("train_loss_step", "val_loss"):
        assert logged(sharded, name) == pytest.approx(logged(copies, name), rel=1e-5)
    assert len(logged(sharded, "train_loss_step")) == 12
    found, expected = adapter(sharded), adapter(copies)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


def test_checkpoints_have_the_form_of_ddps(sharded: Path, copies: Path) -> None:
    found, expected = last_checkpoints(sharded), last_checkpoints(copies)
    assert found.keys() == expected.keys()
    assert len(found) == 2
    for name, other in expected.items():
        assert found[name].keys() == other.keys()
        pairs = [(found[name]["state_dict"], other["state_dict"])]
        states = found[name]["optimizer_states"][0]["state"], other["optimizer_states"][0]["state"]
        assert states[0].keys() == states[1].keys()
        pairs += [(states[0][key], states[1][key]) for key in states[1]]
        for ours, theirs in pairs:
            assert ours.keys() == theirs.keys()
            for key, value in theirs.items():
                assert type(ours[key]) is torch.Tensor
                torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-6)


def cut(recipe: Path, folder: Path, strategy: str, victim: int) -> tuple[int, str]:
    """Kills one of two processes within a training; returns what the other ended with."""
    folder.mkdir()
    write_rounds(folder, recipe, prompts=19)
    arguments = ["finetune", str(recipe), "--out", str(folder), "--stage3.objective", "sft+dpo", *ALLOW]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "rapo_lightning", *arguments, "--trainer.strategy", strategy],
        cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    until = time.monotonic() + 200
    while not list(folder.glob("checkpoints/*/last.ckpt")) and time.monotonic() < until:
        time.sleep(0.01)
    (child,) = descendants(process.pid, f"{sys.executable} -m rapo_lightning")
    os.kill(child if victim else process.pid, signal.SIGKILL)
    # The pipe ends when both are gone.
    _, told = process.communicate(timeout=60)
    return process.returncode, told


@pytest.mark.slow
@pytest.mark.parametrize(("begun", "ended", "victim"), [("fsdp2", "ddp", 0), ("ddp", "fsdp2", 1)])
def test_a_process_is_killed_the_other_ends_with_a_sentence_and_all_goes_on(
    begun: str, ended: str, victim: int, recipe: Path, sharded: Path, tmp_path: Path
) -> None:
    code, told = cut(recipe, tmp_path / "run", begun, victim)
    assert code == (1 if victim else -signal.SIGKILL)
    assert told.count("rapo-lightning: ") == 1
    assert "The processes of a run must stay together. Got" in told
    assert "Traceback" not in told
    states = last_checkpoints(tmp_path / "run").values()
    assert len(states) == 1
    assert not next(iter(states))["whole"] or next(iter(states))["epoch"] == 0
    finetune(recipe, tmp_path / "run", ended)
    for name in ("train_loss_step", "val_loss"):
        assert logged(tmp_path / "run", name) == pytest.approx(logged(sharded, name), rel=1e-5)
    torch.testing.assert_close(adapter(tmp_path / "run"), adapter(sharded), rtol=1e-5, atol=1e-5)


def test_activations_may_be_forgotten(recipe: Path, tmp_path: Path) -> None:
    options = ["--stage3.gradient_checkpointing", "true", "--stage3.lora.dropout", "0", "--stage3.objective", "sft"]
    finetune(recipe, tmp_path / "run", "fsdp2", *options)
    write_rounds(tmp_path, recipe, prompts=19)
    assert main(["finetune", str(recipe), "--out", str(tmp_path), "--trainer.devices", "1", *options[2:], *ALLOW]) == 0
    assert logged(tmp_path / "run", "val_loss") == pytest.approx(logged(tmp_path, "val_loss"), rel=1e-4)


def test_a_trial_exports_nothing(recipe: Path, tmp_path: Path) -> None:
    finetune(recipe, tmp_path / "run", "fsdp2", "--trainer.fast_dev_run", "true")
    assert not (tmp_path / "run/refiner").exists()


def test_a_node_each(recipe: Path, copies: Path, tmp_path: Path) -> None:
    """Two nodes with one process: both are the first of their node, and one is the run's first."""
    folder = write_rounds(tmp_path, recipe, prompts=19)
    arguments = ["finetune", str(recipe), "--out", str(folder), "--stage3.objective", "sft+dpo", *ALLOW]
    arguments += ["--trainer.devices", "1", "--trainer.num_nodes", "2", "--trainer.strategy", "fsdp2"]
    nodes = []
    for rank in range(2):
        place = {"NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29713", "PYTHONPATH": str(ROOT)}
        nodes.append(
            subprocess.Popen(
                [sys.executable, "-m", "rapo_lightning", *arguments],
                cwd=ROOT, env={**os.environ, **place}, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    for node in nodes:
        _, told = node.communicate(timeout=300)
        assert node.returncode == 0, told
    assert logged(folder, "val_loss") == pytest.approx(logged(copies, "val_loss"), rel=1e-5)


def test_names_of_the_strategy() -> None:
    options = {"accelerator": "cpu", "devices": 2}
    for named in (
        "fsdp2",
        {"class_path": LIGHTNINGS, "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1}},
    ):
        assert isinstance(make_trainer({**options, "strategy": named}).strategy, ShardedBase)
        assert not isinstance(predict_trainer({**options, "strategy": named}).strategy, ShardedBase)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage3.lora.variant", "dora"], "Got `stage3.lora.variant: dora`; set it to lora"),
        (["--trainer.strategy", f'{{class_path: {LIGHTNINGS}, init_args: {{tensor_parallel_size: 2}}}}'], "without tensor parallelism"),
        (["--trainer.strategy", f'{{class_path: {LIGHTNINGS}, init_args: {{save_distributed_checkpoint: true}}}}'], "is one file"),
    ],
)  # fmt: skip
def test_what_cannot_be_sharded_is_said_before_a_model_is_loaded(
    options: list[str], message: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_rounds(tmp_path, recipe, prompts=19)
    monkeypatch.setattr(command, "load_causal_model", None)
    arguments = ["finetune", str(recipe), "--out", str(tmp_path), "--stage3.objective", "sft+dpo", *ALLOW]
    assert main([*arguments, "--trainer.strategy", "fsdp2", *options]) == 2
    assert message in capsys.readouterr().err
