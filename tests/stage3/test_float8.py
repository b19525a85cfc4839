"""A frozen base in eight bits: how near its products are, and that only the adapter learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rapo_lightning.cli import main
from rapo_lightning.models.causal_model import load_causal_model
from rapo_lightning.recipe import Lora, Stage3
from rapo_lightning.stage3 import adapter
from rapo_lightning.stage3.adapter import trainable
from rapo_lightning.stage3.float8 import Float8Linear, freeze_in_float8, quantize
from tests.helpers import tiny_recipe
from tests.stage3.runs import write_rounds

CPU = torch.device("cpu")
DEVICES = [CPU, *([torch.device("cuda")] if torch.cuda.is_available() else [])]


def test_rows_have_scales_of_their_own() -> None:
    matrix = torch.randn(4, 32) * torch.tensor([[1e-4], [1.0], [1e4], [0.0]])
    values, scale = quantize(matrix)
    assert values.dtype == torch.float8_e4m3fn
    assert values.float().abs().amax(1).tolist() == [448.0, 448.0, 448.0, 0.0]
    # Four bits of mantissa, the leading one included: half a step is 1/16 of the value.
    assert (
        (values.float() * scale - matrix).abs() <= matrix.abs() / 16 + matrix.abs().amax(1, keepdim=True) / 448 / 64
    ).all()


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_products_and_gradients_are_near_those_of_the_layer(device: torch.device) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 48).to(device, torch.bfloat16)
    quantized = Float8Linear(layer, device)
    inputs = torch.randn(2, 5, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
    wanted = layer(inputs)
    found = quantized(inputs)
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    assert (found - wanted).norm() / wanted.norm() < 0.06
    upstream = torch.randn_like(wanted)
    (exact,) = torch.autograd.grad(wanted, inputs, upstream)
    (near,) = torch.autograd.grad(found, inputs, upstream)
    assert (near - exact).norm() / exact.norm() < 0.06
    assert near.norm() > 0


def test_the_base_under_an_adapter_is_replaced_and_the_adapter_learns(language_model: Path) -> None:
    base, _ = load_causal_model(str(language_model), "float32")
    torch.manual_seed(0)
    model = trainable(base, Stage3(lora=Lora(r=2, alpha=2, dropout=0.0)))
    tokens = torch.arange(12)[None]
    exact = model(tokens, labels=tokens).loss
    exact.backward()
    before = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    assert freeze_in_float8(model, CPU) == 14
    assert not [name for name, _ in model.named_buffers() if "by_" in name]
    loss = model(tokens, labels=tokens).loss
    loss.backward()
    after = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert abs(float(loss) / float(exact) - 1) < 0.01
    assert abs(float(loss) - float(exact)) > 0
    assert len(after) == len(before)
    change = torch.cat([a.flatten() - b.flatten() for a, b in zip(after, before, strict=True)]).norm()
    assert change / torch.cat([b.flatten() for b in before]).norm() < 0.2


def test_a_device_that_cannot_is_told(
    tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(tmp_path, language_model, stage3__lora__quantization="float8")
    folder = write_rounds(tmp_path / "run", recipe)
    arguments = ["finetune", str(recipe), "--out", str(folder), "--allow_package", "tests"]
    assert main(arguments) == 2
    assert "compute capability 8.9 or more (Ada, Hopper and newer). Got no CUDA device" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(adapter.torch.cuda, "get_device_capability", lambda: (8, 0))
    assert main([*arguments, "--trainer.accelerator", "auto"]) == 2
    assert "Got 8.0; set it to none" in capsys.readouterr().err
    monkeypatch.setattr(adapter.torch.cuda, "get_device_capability", lambda: (9, 0))
    assert main([*arguments, "--trainer.accelerator", "auto", "--stage3.lora.variant", "dora"]) == 2
    assert "Got variant dora" in capsys.readouterr().err
