"""Trainings in packs: the steps of padding, exact resume, and the rule that chooses between both."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from datamodules.packs import BLOCK
from rapo_lightning.cli import main
from rapo_lightning.errors import UserError
from rapo_lightning.recipe.files import load_recipe
from rapo_lightning.recipe.training import Optimizer
from rapo_lightning.stage3.engines.lightning.module import RefinerModule
from rapo_lightning.stage3.packing import made_ready, model_hindrance, packing_of
from tests.helpers import tiny_recipe
from tests.stage3.runs import write_rounds
from tests.stage3.test_finetune import ALLOW, same_adapter
from tests.stage3.test_loss import QUIET, Ranks, data_module, pairs, recorder
from tests.stage3.test_packs import MODELS, SIZES


def test_validation_is_the_mean_over_the_same_tokens(language_model: Path) -> None:
    module, tokenizer = recorder(language_model)
    trainer = lightning.Trainer(**QUIET)
    (padded,) = trainer.validate(module, data_module(tokenizer, pairs(1), pairs(17), 3), verbose=False)
    with made_ready(module.model, "packs", torch.device("cpu")):
        data = data_module(tokenizer, pairs(1), pairs(17), 3, pack_tokens=1024)
        (found,) = trainer.validate(module, data, verbose=False)
        sums = torch.zeros(2)
        for rank in range(2):
            data.trainer = Ranks(2, rank)  # type: ignore[assignment]
            for part in (part for step in data.val_dataloader()[0] for part in step):
                with torch.no_grad():
                    loss = module.objective.loss(module.model, part)
                sums += torch.stack([loss.total, loss.count])
    assert found["val_loss"] == pytest.approx(padded["val_loss"], rel=1e-5)
    assert float(sums[0] / sums[1]) == pytest.approx(padded["val_loss"], rel=1e-5)


PACKS = {
    "stage3__checkpoint_steps": 1, "stage3__epochs": 2, "stage3__objective": "sft+dpo",
    "stage3__optimizer": {"lr": 0.01, "batch_size": 4, "micro_batch_size": 2, "packing": "packs", "pack_tokens": 1024},
}  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs as small as can be, so that steps have several."""
    monkeypatch.setattr(
        "datamodules.pairs.pack_size", lambda steps, common, least, most, world: -(-least // BLOCK) * BLOCK
    )


def _logged(folder: Path, name: str) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.usefixtures("small")
def test_steps_in_packs_are_those_of_padding(language_model: Path, tmp_path: Path) -> None:
    losses = {}
    for packing in ("padding", "packs"):
        (place := tmp_path / packing).mkdir()
        optimizer = {**PACKS["stage3__optimizer"], "packing": packing}  # type: ignore[dict-item]
        lora = {"r": 2, "alpha": 2, "dropout": 0.0}
        recipe = tiny_recipe(place, language_model, **{**PACKS, "stage3__optimizer": optimizer, "stage3__lora": lora})
        folder = write_rounds(place / "run", recipe) if (place / "run").mkdir() is None else place
        main(["finetune", str(recipe), "--out", str(folder), *ALLOW])
        losses[packing] = [_logged(folder, name) for name in ("train_loss_step", "val_loss", "train_loss_epoch")]
    for one, other in zip(*losses.values(), strict=True):
        assert len(one) > 2
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("passes", [1, 2, 3, 7, 10])
def test_a_training_in_packs_goes_on_to_the_same_bits(
    passes: int, language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Steps have two packs, and epochs two steps.
    recipe = tiny_recipe(tmp_path, language_model, **PACKS)
    folders = [tmp_path / name for name in ("unbroken", "cut")]
    added, counted = RefinerModule._added, [0]

    def plug_pulled(self: RefinerModule, part: Any) -> torch.Tensor:
        counted[0] += 1
        if counted[0] == passes + 1:
            raise KeyError("no power")
        return added(self, part)

    for folder in folders:
        folder.mkdir()
        write_rounds(folder, recipe)
    with monkeypatch.context() as patch:
        patch.setattr(RefinerModule, "_added", plug_pulled)
        with pytest.raises(KeyError, match="no power"):
            main(["finetune", str(recipe), "--out", str(folders[1]), *ALLOW])
    for folder in folders:
        main(["finetune", str(recipe), "--out", str(folder), *ALLOW])
    assert same_adapter(*folders)
    assert _logged(folders[0], "train_loss_step") == _logged(folders[1], "train_loss_step")


def test_auto_pads_on_a_cpu_and_packs_on_a_gpu_that_can(
    language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path, language_model, trainer={}))
    name = str(language_model)
    monkeypatch.setattr("rapo_lightning.stage3.packing._LEAST_HEAD", 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert packing_of(recipe, name) == "padding"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, expected in (((7, 5), "padding"), ((8, 0), "packs"), ((9, 0), "packs")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda found=capability: found)
        assert packing_of(recipe, name) == expected
    recipe.trainer["accelerator"] = "cpu"
    assert packing_of(recipe, name) == "padding"
    recipe.stage3.optimizer.packing = "packs"
    assert packing_of(recipe, name) == "packs"
    recipe.stage3.optimizer.pack_tokens = 512
    with pytest.raises(UserError, match="pack_tokens` must hold the longest pair.* Got 512 and 512"):
        packing_of(recipe, name)
    recipe.trainer["strategy"] = "fsdp2"
    with pytest.raises(UserError, match="Got `trainer.strategy` fsdp2, which shards the base; leave"):
        packing_of(recipe, name)
    recipe.trainer["strategy"] = "ddp"
    recipe.stage3.lora.quantization = "nf4"
    with pytest.raises(UserError, match="Got a base in nf4; leave"):
        packing_of(recipe, name)


def test_what_cannot_be_packed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model, config = MODELS["qwen2"]
    assert model_hindrance(config(**SIZES), model, 512, ["q_proj"]) == ""
    sliding = config(**SIZES, use_sliding_window=True, sliding_window=64, max_window_layers=1)
    assert "do not all attend" in model_hindrance(sliding, model, 512, ["q_proj"])
    assert "cannot" in model_hindrance(config(**SIZES), torch.nn.Linear, 512, ["q_proj"])
    scaled = config(**SIZES)
    scaled.final_logit_softcapping = 30.0
    assert "scaled" in model_hindrance(scaled, model, 512, ["q_proj"])
    assert "head" in model_hindrance(config(**SIZES), model, 512, ["q_proj", "lm_head"])


def test_a_pack_of_odd_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pack_tokens` must be a multiple of 128.* Got 1000"):
        Optimizer(pack_tokens=1000)
