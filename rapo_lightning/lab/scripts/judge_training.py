"""Trains the judge: a vision tower from nothing and a LoRA on a frozen text model, on rows of `judge_rows`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from ...checkpoints.vision_language import DELTA, LANGUAGE, VISION, JudgeSettings
from .judge_rows import GRID, VIDEO_TOKENS
from .timed_training import TimedModule

_ADAPTED = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_ROTATION = 10_000.0
"""Base of the vision tower's rotary frequencies in Qwen2.5-VL."""


def patches_of(frames: Tensor, patch: int) -> Tensor:
    """Pixels as the processor hands them on: `(clips * patches, 3 * 2 * patch * patch)`, in -1..1.

    Args:
        frames: RGB in 8 bit, `(clips, 2 * times, side, side, 3)`.
        patch: Pixels along a side of a patch.
    """
    clips, count, side = frames.shape[:3]
    cells = side // patch // 2
    pixels = (frames.float() / 127.5 - 1).reshape(clips, count // 2, 2, cells, 2, patch, cells, 2, patch, 3)
    return pixels.permute(0, 1, 3, 6, 4, 7, 9, 2, 5, 8).reshape(-1, 6 * patch * patch)


def _rotation(cells: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of a frame's patches, `(patches, width)`, in the order of `patches_of`."""
    axis = torch.arange(2 * cells, device=device)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.stack([rows, columns]).reshape(2, cells, 2, cells, 2).transpose(2, 3).reshape(2, -1)
    rates = _ROTATION ** -(torch.arange(0, width // 2, 2, device=device) / (width // 2))
    angles = (places[..., None] * rates).transpose(0, 1).flatten(1).repeat(1, 2)
    return angles.cos(), angles.sin()


def encode_clips(tower: nn.Module, frames: Tensor) -> Tensor:
    """Video tokens of clips, `(clips * tokens, width of the text)`, as the library's tower computes them.

    All frames have one size here, so that they are one batch; the library goes over them one by one (a test compares).

    Args:
        tower: The vision tower of Qwen2.5-VL.
        frames: RGB in 8 bit, `(clips, frames, side, side, 3)`.
    """
    patch, heads = tower.patch_size, tower.blocks[0].attn.num_heads
    cells = frames.shape[2] // patch // 2
    # A convolution whose steps are as wide as its kernel is a linear layer, and faster as one.
    embedded = functional.linear(patches_of(frames, patch), tower.patch_embed.proj.weight.flatten(1))
    tokens = embedded.unflatten(0, (-1, 4 * cells * cells))
    cos, sin = _rotation(cells, tokens.shape[-1] // heads, frames.device)
    for block in tower.blocks:
        query, key, value = block.attn.qkv(block.norm1(tokens)).unflatten(-1, (3, heads, -1)).unbind(2)
        query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
        seen = functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (query, key, value)))
        tokens = tokens + block.attn.proj(seen.transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norm2(tokens))
    merged: Tensor = tower.merger(tokens.flatten(0, 1))
    return merged


def place_tokens(positions: Tensor, begin: int) -> Tensor:
    """Qwen2.5-VL's places in time, height and width, `(3, rows, tokens)`.

    A pair of frames lasts a quarter of a second, and the model counts four steps a second. The text goes on behind the
    video's height, as in the library.

    Args:
        positions: Places in the text with one for each video token, `(rows, tokens)`.
        begin: The first video token.
    """
    grid = torch.stack(torch.meshgrid(*(torch.arange(size, device=positions.device) for size in GRID), indexing="ij"))
    behind = torch.where(positions < begin, positions, positions - VIDEO_TOKENS + GRID[1])
    places = behind.expand(3, -1, -1).clone()
    places[:, :, begin : begin + VIDEO_TOKENS] = begin + grid.reshape(3, 1, -1)
    return places


def visible(branches: Tensor) -> Tensor:
    """Which tokens see which, `(rows, 1, tokens, tokens)`: what is before them, shared or of the same request.

    Args:
        branches: As in `judge_rows.Row`, `(rows, tokens)`.
    """
    own, other = branches[:, :, None], branches[:, None, :]
    size = branches.shape[1]
    earlier = torch.ones(size, size, dtype=torch.bool, device=branches.device).tril()
    return (earlier & ((other == 0) | (own == other)))[:, None]


class JudgeTraining(TimedModule):
    """The training of a judge. The frozen text model is no part of the module: it is neither saved nor averaged."""

    peak_rate = 1e-3
    average = 0.999

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, settings: JudgeSettings, begin: int, seed: int = 0,
        compiled: bool = False,
    ) -> None:  # fmt: skip
        """Puts a LoRA on the text half and freezes the rest of it.

        Args:
            model: The whole model, on its device.
            settings: Rank and scale of the LoRA.
            begin: Place of the first video token in a row.
            seed: Seed of the training.
            compiled: Whether layers are compiled when training starts.
        """
        super().__init__()
        self.seed, self.begin, self.compiled = seed, begin, compiled
        torch.manual_seed(seed)
        half = model.model.language_model
        model.requires_grad_(False)
        lora = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=_ADAPTED)
        inject_adapter_in_model(lora, half)
        for module in half.modules():
            if hasattr(module, "cast_input_dtype_enabled"):
                # Autocast gives the adapter's layers their type; PEFT would first make a float32 copy of every input.
                module.cast_input_dtype_enabled = False
        adapters = {name: value for name, value in half.named_parameters() if "lora_" in name}
        self.tower: Any = model.model.visual.requires_grad_(True)
        self.adapter_names = list(adapters)
        self.adapters = nn.ParameterList(value.requires_grad_(True) for value in adapters.values())
        self._frozen = [half, model.lm_head]
        trained = {id(parameter) for parameter in self.parameters()}
        if model.device.type == "cuda":
            for parameter in model.parameters():
                if id(parameter) not in trained:
                    parameter.data = parameter.data.to(torch.bfloat16)
        self._encode: Any = encode_clips

    def on_train_start(self) -> None:
        """Compiles the layers of both halves, which are small: most of their time goes from kernel to kernel."""
        super().on_train_start()
        if self.compiled:
            self._encode = torch.compile(encode_clips, dynamic=False)
            for layer in self._frozen[0].layers:
                layer.compile(dynamic=False)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Hidden states of rows, `(rows, tokens, width)`.

        Args:
            batch: What `JudgeRows` draws.
        """
        half, begin, end = self._frozen[0], self.begin, self.begin + VIDEO_TOKENS
        embedded = half.embed_tokens(batch["ids"])
        video = self._encode(self.tower, batch["frames"]).to(embedded.dtype).unflatten(0, (len(embedded), -1))
        hidden: Tensor = half(
            inputs_embeds=torch.cat([embedded[:, :begin], video, embedded[:, end:]], dim=1),
            attention_mask={"full_attention": visible(batch["branches"])},
            position_ids=place_tokens(batch["positions"], begin),
            use_cache=False,
        ).last_hidden_state
        return hidden

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Weighted loss of what the judge says; the parts of it that describe and compare are logged without weights."""
        weights = batch["weights"][:, 1:]
        said = weights > 0
        logits = self._frozen[1](self(batch)[:, :-1][said]).float()
        losses = functional.cross_entropy(logits, batch["ids"][:, 1:][said], reduction="none")
        weight = weights[said].float()
        loss = (losses * weight).sum() / weight.sum()
        shared = (batch["branches"][:, 1:][said] == 0).float()
        parts = {
            "loss": loss,
            "described": (losses.detach() * shared).sum() / shared.sum(),
            "compared": (losses.detach() * (1 - shared)).sum() / (1 - shared).sum(),
        }
        self.log_dict(parts, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def save(self, folder: Path, settings: JudgeSettings) -> None:
        """Writes the delta in bf16 and the settings, for `checkpoints.vision_language.assemble`."""
        folder.mkdir(parents=True, exist_ok=True)
        delta = {VISION + name: value for name, value in self.tower.named_parameters()}
        for name, value in zip(self.adapter_names, self.adapters, strict=True):
            delta[LANGUAGE + name.removesuffix(".default.weight")] = value
        tensors = {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in delta.items()}
        save_file(tensors, folder / DELTA)
        settings.save(folder)
