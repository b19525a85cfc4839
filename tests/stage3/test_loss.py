"""The loss is a mean over tokens, whatever the micro-batches, the batch size and the number of processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from datamodules.steps import PaddedShares, StepOrder
from rapo_lightning.models.causal_model import load_causal_model
from rapo_lightning.recipe import Lora, Stage3
from rapo_lightning.stage3.engines.lightning.module import RefinerModule
from tests.stage3.runs import data_module, refiner_module, sft_row

STAGE3 = Stage3(lora=Lora(r=2, alpha=2, dropout=0.0))
QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "use_distributed_sampler": False,
}  # fmt: skip


def pairs(count: int) -> list[dict[str, Any]]:
    """Pairs whose completions have unequal lengths."""
    return [sft_row(f"ball {number}", "a red ball rolls " * (1 + 3 * (number % 4))) for number in range(count)]


class Recorder(RefinerModule):
    """Keeps the gradients that the optimizer sees."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        self.gradients = [p.grad.clone() for p in self.parameters() if p.grad is not None]


@dataclass
class Ranks:
    """What a data module asks of a Trainer."""

    world_size: int
    global_rank: int


def recorder(language_model: Path) -> tuple[Recorder, Any]:
    module, tokenizer = refiner_module(language_model, STAGE3, Recorder)
    torch.manual_seed(1)
    # A fresh adapter has zero in B, and then no gradient in A.
    for parameter in module.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return module, tokenizer


def gradients(language_model: Path, micro_batch: int, accumulation: int, count: int = 4) -> list[torch.Tensor]:
    module, tokenizer = recorder(language_model)
    data = data_module(tokenizer, pairs(count), [], micro_batch, step=micro_batch * accumulation)
    trainer = lightning.Trainer(**QUIET, max_epochs=1)
    trainer.fit(module, data)
    return module.gradients


def val_loss(language_model: Path, batch_size: int) -> float:
    module, tokenizer = recorder(language_model)
    data = data_module(tokenizer, pairs(1), pairs(17), batch_size)
    (found,) = lightning.Trainer(**QUIET).validate(module, data, verbose=False)
    return found["val_loss"]


def test_gradients_do_not_depend_on_micro_batches(language_model: Path) -> None:
    whole = gradients(language_model, 4, 1)
    for micro_batch, accumulation in ((1, 4), (2, 2), (3, 2)):
        for found, expected in zip(gradients(language_model, micro_batch, accumulation), whole, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_the_mean_over_tokens(language_model: Path) -> None:
    module, tokenizer = recorder(language_model)
    data = data_module(tokenizer, pairs(4), [], 4)
    (batch,) = next(iter(data.train_dataloader()))
    # transformers' own loss of one batch is that mean.
    module.model(**batch).loss.backward()
    expected = [p.grad for p in module.parameters() if p.grad is not None]
    for found, own in zip(gradients(language_model, 1, 4), expected, strict=True):
        torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-5)


def test_a_last_step_with_fewer_micro_batches_is_a_mean_too(language_model: Path) -> None:
    for found, expected in zip(
        gradients(language_model, 1, 4, count=2), gradients(language_model, 2, 1, count=2), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_validation_loss_does_not_depend_on_the_batch_size(language_model: Path) -> None:
    losses = [val_loss(language_model, size) for size in (1, 3, 16)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_validation_loss_does_not_depend_on_the_number_of_processes(language_model: Path) -> None:
    module, tokenizer = recorder(language_model)
    data, sums = data_module(tokenizer, pairs(1), pairs(17), 3), torch.zeros(2)
    for rank in range(2):
        data.trainer = Ranks(2, rank)  # type: ignore[assignment]
        for batch in (part for step in data.val_dataloader()[0] for part in step):
            with torch.no_grad():
                found = module.eval().objective.loss(module.model, batch)
            sums += torch.stack([found.total, found.count])
    assert float(sums[0] / sums[1]) == pytest.approx(val_loss(language_model, 3), rel=1e-5)


@pytest.mark.parametrize("count", [4, 5])
def test_what_fills_up_a_share_has_no_loss(language_model: Path, count: int) -> None:
    _, tokenizer = load_causal_model(str(language_model), "float32")
    data = data_module(tokenizer, pairs(count), pairs(count), 2)

    for loader in ("train_dataloader", "val_dataloader"):
        counted, batches = 0, []
        for rank in range(2):
            data.trainer = Ranks(2, rank)  # type: ignore[assignment]
            found = getattr(data, loader)()
            share = [part for step in (found[0] if isinstance(found, list) else found) for part in step]
            batches.append(len(share))
            counted += sum(int((batch["labels"] != -100).sum()) for batch in share)
        assert batches[0] == batches[1]
        assert counted == sum(label != -100 for tokens in data.training for label in tokens["labels"])


def test_a_step_has_the_same_pairs_on_any_number_of_devices_and_alike_ones_together() -> None:
    lengths = [7, 3, 9, 1, 5, 8, 2, 6]
    alone = StepOrder(lengths, 4, seed=3)
    alone.set_epoch(2)
    order = list(alone)
    assert sorted(order) == list(range(8))
    for start in (0, 4):
        step = [lengths[place] for place in order[start : start + 4]]
        assert step == sorted(step, reverse=True)
    for rank in range(2):
        shares = PaddedShares(StepOrder(lengths, 4, seed=3), 4, 1, world=2, rank=rank)
        assert [part[0] for step in shares for part in step] != order[rank::2]
        shares.set_epoch(2)
        assert [part[0] for step in shares for part in step] == order[rank::2]
    assert list(StepOrder(lengths, 0, seed=3)) == list(range(8))
