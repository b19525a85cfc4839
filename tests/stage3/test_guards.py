"""A training that diverges stops and saves nothing bad; a step that sticks out is skipped, also after a kill; memory that ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rapo_lightning.cli import main
from rapo_lightning.recipe import Optimizer, Stage3
from rapo_lightning.stage3.engines.lightning.checkpoints import read_checkpoint
from rapo_lightning.stage3.engines.lightning.guards import LEAST, WINDOW, SpikeRule
from rapo_lightning.stage3.engines.lightning.module import RefinerModule
from rapo_lightning.stage3.memory import memory_told
from rapo_lightning.stage3.objectives import Loss, Sft
from tests.helpers import tiny_recipe
from tests.stage3.conftest import ALLOW
from tests.stage3.runs import write_rounds
from tests.stage3.test_finetune import contents, same_adapter

Change = Callable[[RefinerModule, Any, int, torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def often(language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that saves after every step: 4 an epoch, of two micro-batches."""
    return tiny_recipe(tmp_path_factory.mktemp("often"), language_model, stage3__checkpoint_steps=1, stage3__epochs=4)


def change_losses(monkeypatch: pytest.MonkeyPatch, name: str, change: Change) -> None:
    step = getattr(RefinerModule, name)

    def changed(self: RefinerModule, batch: Any, batch_idx: int) -> Any:
        return change(self, batch, batch_idx, step(self, batch, batch_idx))

    monkeypatch.setattr(RefinerModule, name, changed)


def test_the_rule_skips_what_sticks_out_and_gets_used_to_it() -> None:
    rule = SpikeRule(10.0)
    assert not any(rule.sticks_out(norm) for norm in [1.0, 100.0, *[1.0] * (LEAST - 3)])
    assert not rule.sticks_out(10.0)
    assert rule.sticks_out(10.1)
    again = SpikeRule(10.0)
    again.load_state_dict(rule.state_dict())
    found = [rule.sticks_out(50.0) for _ in range(WINDOW)]
    assert found == [again.sticks_out(50.0) for _ in range(WINDOW)]
    assert found[0]
    assert not found[-1]
    assert sum(found) <= WINDOW // 2 + 1
    assert rule.skipped == again.skipped == sum(found) + 1
    assert not any(SpikeRule(0.0).sticks_out(norm) for norm in [1.0] * LEAST + [1e9])
    idle = SpikeRule(10.0)
    assert not any(idle.sticks_out(norm) for norm in [0.0] * LEAST + [1.0])


def test_a_loss_that_is_no_number_stops_the_training(
    often: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_rounds(tmp_path, often)
    # The third step of the second epoch: the seventh.
    bad = (1, 2)
    change_losses(
        monkeypatch, "training_step",
        lambda self, _, number, loss: loss * torch.nan if (self.current_epoch, number) == bad else loss,
    )  # fmt: skip
    assert main(["finetune", str(often), "--out", str(folder), *ALLOW]) == 1
    error = capsys.readouterr().err
    assert "Got the loss nan in step 7 (epoch 2), which is not saved" in error
    assert "the checkpoint of step 6 is kept and good. Lower `stage3.optimizer.lr` (0.01)" in error
    last = read_checkpoint(next((folder / "checkpoints").glob("*/last.ckpt")))
    assert last["global_step"] == 6
    assert all(torch.isfinite(item).all() for item in last["state_dict"].values())
    assert not (folder / "refiner").exists()


def test_a_validation_loss_that_is_no_number_stops_before_the_epoch_is_saved(
    often: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_rounds(tmp_path, often)
    loss = Sft.loss

    def broken(self: Sft, model: Any, batch: Any) -> Loss:
        found = loss(self, model, batch)
        return found if torch.is_grad_enabled() else Loss(found.total * torch.nan, found.count)

    monkeypatch.setattr(Sft, "loss", broken)
    assert main(["finetune", str(often), "--out", str(folder), *ALLOW]) == 1
    assert "Got the validation loss inf in step 4 (epoch 1)" in capsys.readouterr().err
    assert not list((folder / "checkpoints").glob("*/best.ckpt"))
    assert not (folder / "refiner").exists()


def test_weights_that_are_no_numbers_are_not_saved(
    often: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_rounds(tmp_path, often)
    step = torch.optim.AdamW.step

    def broken(self: torch.optim.AdamW, closure: Any = None) -> Any:
        found = step(self, closure)
        with torch.no_grad():
            self.param_groups[0]["params"][0].fill_(torch.inf)
        return found

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    assert main(["finetune", str(often), "--out", str(folder), *ALLOW]) == 1
    assert "that is no finite number in step 1" in capsys.readouterr().err
    assert not list((folder / "checkpoints").rglob("*.ckpt"))


def test_a_skipped_step_changes_nothing_and_a_killed_training_skips_the_same(
    often: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The last micro-batch of the thirteenth step, the first of the fourth epoch.
    change_losses(
        monkeypatch, "training_step",
        lambda self, _, number, loss: loss * 1000 if self.current_epoch == 3 and number < 1 else loss,
    )  # fmt: skip
    whole, broken = (write_rounds(tmp_path / name, often) for name in ("whole", "broken"))
    states: dict[int, dict[str, torch.Tensor]] = {}

    def note(self: RefinerModule, *rest: Any) -> None:
        states[self.global_step] = {name: value.clone() for name, value in self.state_dict().items()}

    with monkeypatch.context() as patch:
        patch.setattr(RefinerModule, "on_train_batch_end", note)
        assert main(["finetune", str(often), "--out", str(whole), *ALLOW]) == 0
    said = capsys.readouterr().out
    assert said.count("is skipped: its gradient's norm") == 1
    assert "Step 13 is skipped" in said
    assert "(1 skipped so far)" in said
    assert all(torch.equal(states[12][name], states[13][name]) for name in states[12])
    assert not all(torch.equal(states[13][name], states[14][name]) for name in states[13])

    def stop(self: RefinerModule) -> None:
        if self.current_epoch == 3:
            raise SystemError("pulled the plug")

    with monkeypatch.context() as patch:
        patch.setattr(RefinerModule, "on_train_epoch_start", stop, raising=False)
        with pytest.raises(SystemError, match="plug"):
            main(["finetune", str(often), "--out", str(broken), *ALLOW])
    assert main(["finetune", str(often), "--out", str(broken), *ALLOW]) == 0
    assert "Step 13 is skipped" in capsys.readouterr().out
    assert same_adapter(whole, broken)


def test_memory_that_ends_is_told_and_nothing_is_lost(
    often: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_rounds(tmp_path, often)

    def full(self: RefinerModule, batch: Any, batch_idx: int, loss: torch.Tensor) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == (1, 2):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss

    with monkeypatch.context() as patch:
        change_losses(patch, "training_step", full)
        assert main(["finetune", str(often), "--out", str(folder), *ALLOW]) == 1
    error = capsys.readouterr().err
    assert "Got CUDA out of memory. Tried to allocate 2.00 GiB; set `stage3.gradient_checkpointing: true`" in error
    kept = contents(folder / "checkpoints")
    assert {Path(name).name for name in kept} == {"best.ckpt", "last.ckpt"}
    # The advice is taken, and the training goes on to what it would have learned.
    options = ["--stage3.gradient_checkpointing", "true", *ALLOW]
    assert main(["finetune", str(often), "--out", str(folder), *options]) == 0
    assert len(list((folder / "checkpoints").iterdir())) == 1
    unbroken = write_rounds(tmp_path / "unbroken", often)
    assert main(["finetune", str(often), "--out", str(unbroken), *ALLOW]) == 0
    assert same_adapter(folder, unbroken)


@pytest.mark.parametrize(
    ("size", "saving", "quantization", "said"),
    [
        (8, False, "none", "micro_batch_size` from 8 to 4, which trains anew, or set `stage3.gradient_checkpointing"),
        (8, True, "none", "micro_batch_size` from 8 to 4, which trains anew. What"),
        (1, False, "none", "gradient_checkpointing: true`, .*, or set `stage3.lora.quantization: nf4`"),
        (1, True, "nf4", r"lower `stage3.max_length` \(512\)"),
    ],
)
def test_what_to_lower_depends_on_what_is_set(size: int, saving: bool, quantization: Any, said: str) -> None:
    stage3 = Stage3(optimizer=Optimizer(micro_batch_size=size), gradient_checkpointing=saving)
    stage3.lora.quantization = quantization
    with pytest.raises(Exception, match=said), memory_told(stage3):
        raise torch.OutOfMemoryError("out of memory")


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (8192, "pack_tokens` from 8192 to 4096, which trains anew, or set `stage3.gradient_checkpointing"),
        (1920, "error; set `stage3.gradient_checkpointing: true`, .*, or set `stage3.lora.quantization: nf4`"),
    ],
)
def test_of_packs_the_tokens_are_lowered_as_long_as_a_preference_fits(tokens: int, said: str) -> None:
    stage3 = Stage3(optimizer=Optimizer(pack_tokens=tokens))
    with pytest.raises(Exception, match=said), memory_told(stage3, tokens):
        raise torch.OutOfMemoryError("error")
