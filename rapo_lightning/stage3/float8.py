"""A frozen base in eight bits, whose matrix products Hopper cards compute twice as fast: other mathematics, opt-in."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

_TYPE = torch.float8_e4m3fn
_MOST = torch.finfo(_TYPE).max
_MULTIPLE = 16
"""What cuBLAS wants the sizes of a matrix in eight bits to be multiples of."""


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix in eight bits with a scale for each row, so that its largest value is the largest that there is.

    Args:
        matrix: `(rows, columns)`.

    Returns:
        The values, `(rows, columns)`, and the scales, `(rows, 1)` in float32.
    """
    values = matrix.float()
    scale = values.abs().amax(1, keepdim=True).clamp_min(1e-12) / _MOST
    return (values / scale).clamp(-_MOST, _MOST).to(_TYPE), scale


def product(left: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """`left @ weight.T`, with `left` quantized by row on the way.

    Args:
        left: `(tokens, columns)`.
        weight: `(rows, columns)` in eight bits.
        scale: Its scales, `(rows, 1)`.

    Returns:
        `(tokens, rows)`, in the type of `left`.
    """
    values, own = quantize(left)
    if left.is_cuda:
        # The only type that row-wise scales have as a result.
        found: Tensor = torch._scaled_mm(
            values, weight.t(), own, scale.t(), out_dtype=torch.bfloat16, use_fast_accum=True
        )
        return found.to(left.dtype)
    return ((values.float() * own) @ (weight.float() * scale).t()).to(left.dtype)


class _Product(torch.autograd.Function):
    """The layer's product, and the gradient of its input; the weights have none."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, scale: Tensor, turned: Tensor, turned_scale: Tensor
    ) -> Tensor:
        ctx.save_for_backward(turned, turned_scale)
        return product(inputs, weight, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        return product(gradients[0].contiguous(), *ctx.saved_tensors), None, None, None, None


class Float8Linear(nn.Module):
    """A frozen linear layer in eight bits, twice: by output for its products, and by input for the gradient (two bytes a weight)."""

    def __init__(self, layer: nn.Linear, device: torch.device) -> None:
        """Quantizes a layer's weight.

        Args:
            layer: The layer; it is not changed.
            device: Where the quantized weight goes.
        """
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight = layer.weight.detach().to(device)
        # Plain attributes: DDP would send buffers to all devices in each step.
        self.by_output, self.by_input = quantize(weight), quantize(weight.t())
        self.bias = layer.bias

    def forward(self, inputs: Tensor) -> Tensor:
        """As the layer it was, in bfloat16 under autocast."""
        if torch.is_autocast_enabled(inputs.device.type):
            inputs = inputs.to(torch.get_autocast_dtype(inputs.device.type))
        rows = inputs.reshape(-1, self.in_features)
        found: Tensor = _Product.apply(rows, *self.by_output, *self.by_input)  # type: ignore[no-untyped-call]
        found = found.view(*inputs.shape[:-1], self.out_features)
        return found if self.bias is None else found + self.bias.to(found.dtype)


def freeze_in_float8(model: Any, device: torch.device) -> int:
    """Puts the base's layers under a model's adapters into eight bits; returns how many.

    Layers whose sizes are no multiples of 16 stay as they are.

    Args:
        model: A `peft.PeftModel`.
        device: Where it will be trained.
    """
    count = 0
    for part in model.modules():
        layer = getattr(part, "base_layer", None) if isinstance(part, LoraLayer) else None
        if isinstance(layer, nn.Linear) and not (layer.in_features % _MULTIPLE or layer.out_features % _MULTIPLE):
            part.base_layer = Float8Linear(layer, device)  # type: ignore[assignment]
            count += 1
    return count
