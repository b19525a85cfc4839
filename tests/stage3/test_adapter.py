"""Forms of the adapter: each trains, goes on exactly, and plugs back; and what is refused before a model loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rapo_lightning import Refiner
from rapo_lightning.cli import main
from rapo_lightning.models.causal_model import load_causal_model, with_adapter
from rapo_lightning.recipe import Lora, Stage3
from rapo_lightning.stage3 import adapter as adapting
from rapo_lightning.stage3 import run as command
from rapo_lightning.stage3.adapter import linear_layers, trainable
from rapo_lightning.stage3.engines.lightning.module import RefinerModule
from rapo_lightning.stage3.export import export
from rapo_lightning.stage3.objectives.likelihood import token_losses
from tests.helpers import tiny_recipe
from tests.stage3.conftest import ALLOW
from tests.stage3.runs import write_rounds
from tests.stage3.test_export import settings
from tests.stage3.test_finetune import same_adapter

LAYERS = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
TOKENS = torch.arange(40).view(2, 20)


@pytest.mark.parametrize("variant", ["dora", "rslora"])
def test_a_variant_goes_on_exactly_and_plugs_back(
    variant: str, language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"stage3__lora__variant": variant, "stage3__lora__target_modules": ["all-linear"], "stage3__epochs": 2}
    recipe = tiny_recipe(tmp_path, language_model, **options)
    whole, broken = (write_rounds(tmp_path / name, recipe) for name in ("whole", "broken"))
    assert main(["finetune", str(recipe), "--out", str(whole), *ALLOW]) == 0

    def stop(self: RefinerModule) -> None:
        if self.current_epoch == 1:
            raise SystemError("pulled the plug")

    with monkeypatch.context() as patch:
        patch.setattr(RefinerModule, "on_train_epoch_start", stop, raising=False)
        with pytest.raises(SystemError, match="plug"):
            main(["finetune", str(recipe), "--out", str(broken), *ALLOW])
    assert main(["finetune", str(recipe), "--out", str(broken), *ALLOW]) == 0
    assert same_adapter(whole, broken)
    config = json.loads((whole / "refiner/adapter_config.json").read_text())
    assert (config["use_dora"], config["use_rslora"]) == (variant == "dora", variant == "rslora")
    assert sorted(config["target_modules"]) == LAYERS
    # Plain PEFT, and the refiner's own model with the adapter merged, and beside others: the same logits.
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(language_model), str(whole / "refiner")
    ).eval()
    merged = Refiner.from_pretrained(whole / "refiner").model
    merged.load()  # type: ignore[attr-defined]
    with torch.inference_mode():
        expected, base = plain(TOKENS).logits, plain.get_base_model()
        assert torch.allclose(merged.model(TOKENS).logits, expected, atol=1e-4)  # type: ignore[attr-defined]
        with plain.disable_adapter():
            assert not torch.allclose(base(TOKENS).logits, expected, atol=1e-3)


def test_doras_magnitudes_are_not_rounded(language_model: Path, tmp_path: Path) -> None:
    base, tokenizer = load_causal_model(str(language_model), "bfloat16")
    model = trainable(base, Stage3(lora=Lora(r=2, variant="dora", target_modules=["q_proj"])))
    trained = {name: value for name, value in model.named_parameters() if "magnitude" in name}
    assert {value.dtype for value in trained.values()} == {torch.float32}
    with torch.no_grad():
        for value in trained.values():
            value.mul_(1.0001)
    export(settings(tmp_path / "refiner"), model, tokenizer, "card")
    stored = load_file(tmp_path / "refiner/adapter_model.safetensors")
    kept = {name: value for name, value in stored.items() if "magnitude" in name}
    assert {value.dtype for value in kept.values()} == {torch.float32}
    fresh, _ = load_causal_model(str(language_model), "bfloat16")
    loaded = with_adapter(fresh, str(tmp_path / "refiner"), "again")
    read = [value for name, value in loaded.named_parameters() if "magnitude" in name]
    assert all(torch.equal(one, other) for one, other in zip(read, trained.values(), strict=True))


def test_gradient_checkpointing_changes_neither_loss_nor_gradients(language_model: Path) -> None:
    batch = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}
    found: list[tuple[torch.Tensor, dict[str, torch.Tensor], int]] = []
    for saving in (False, True):
        base, _ = load_causal_model(str(language_model), "float32")
        calls: list[int] = []
        base.model.layers[0].self_attn.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        stage3 = Stage3(lora=Lora(r=2, dropout=0.0), gradient_checkpointing=saving)
        torch.manual_seed(0)
        model = trainable(base, stage3)
        loss = token_losses(model, batch, TOKENS, share=False).sum()
        loss.backward()
        gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        found.append((loss, gradients, len(calls)))
    (loss, gradients, once), (same, others, twice) = found
    assert (once, twice) == (1, 2)
    assert torch.equal(loss, same)
    assert gradients.keys() == others.keys()
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)


def test_layers_are_checked_one_by_one(language_model: Path) -> None:
    base, _ = load_causal_model(str(language_model), "float32")
    assert linear_layers(base) == LAYERS
    lora = Lora(target_modules=["q_proj", "c_attn"])
    with pytest.raises(Exception, match=r"Got c_attn; it has down_proj, .*v_proj, or all of these as \[all-linear\]"):
        adapting.lora_config(base, lora)
    with pytest.raises(Exception, match=r"can be adapted. Got \['mlp'\]: .*; it has down_proj"):
        trainable(base, Stage3(lora=Lora(target_modules=["mlp"])))
    with pytest.raises(ValueError, match=r"be \[all-linear\] alone"):
        Lora(target_modules=["all-linear", "q_proj"])


@pytest.mark.parametrize("installed", [False, True])
def test_quantization_is_refused_where_it_cannot_be(
    installed: bool, language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    recipe = tiny_recipe(tmp_path, language_model, stage3__lora__quantization="nf4")
    folder = write_rounds(tmp_path / "run", recipe)
    monkeypatch.setattr(command, "load_causal_model", None)
    monkeypatch.setattr(adapting, "is_bitsandbytes_available", lambda: installed)
    assert main(["finetune", str(recipe), "--out", str(folder), *ALLOW]) == 2
    said = "Got none that `trainer` may use" if installed else "pip install 'rapo-lightning[qlora]'"
    assert said in capsys.readouterr().err


def test_a_quantized_base_trains_an_adapter_for_the_plain_one(language_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base, _ = load_causal_model(str(language_model), "float32", "nf4", "cpu")
    assert linear_layers(base) == LAYERS
    stage3: Any = Stage3(lora=Lora(r=2, variant="dora", target_modules=["all-linear"]), gradient_checkpointing=True)
    model = trainable(base, stage3)
    batch = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}
    token_losses(model, batch, TOKENS, share=False).sum().backward()
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert all("lora_" in name and value.grad is not None for name, value in trained.items())
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(language_model), str(tmp_path))
    assert torch.isfinite(plain(TOKENS).logits).all()
