"""What a training's folder says: tokens a second, losses, the form of its adapter."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoConfig, AutoModelForCausalLM

from rapo_lightning.models.causal_model import tokenizer_of
from rapo_lightning.models.chat_template import encode_pairs
from rapo_lightning.models.refiner import refiner_messages
from rapo_lightning.recipe import Lora, Stage3
from rapo_lightning.stage3.adapter import trainable

Form = dict[str, list[int]]
"""Shapes by the names in an adapter's file."""
_LOSS, _FIRST = "train_loss_step", 2
"""Steps that are not counted: what is allocated and chosen once falls into them."""


def losses(folder: Path) -> list[float]:
    """The loss of each step."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [float(row[_LOSS]) for row in csv.DictReader(file) if row[_LOSS]]


def tokens_per_second(folder: Path, base: Path, pairs: Path, system: str) -> float:
    """Tokens of pairs a second on all devices, without padding, by the times of the steps in the log.

    Args:
        folder: A run that trained one epoch in one go.
        base: Folder of the base model.
        pairs: CSV of the ready pairs.
        system: The instruction.
    """
    with pairs.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    encoded = encode_pairs(
        tokenizer_of(str(base)),
        [refiner_messages(row["prompt"], system) for row in rows],
        [[{"role": "assistant", "content": row["completion"]}] for row in rows],
    )
    tokens = sum(len(head) + len(answer) for head, answer in encoded) / len(rows)
    events = EventAccumulator(str(next((folder / "logs").glob("*"))))
    events.Reload()
    times = [event.wall_time for event in events.Scalars(_LOSS)]
    counted = len(rows) / len(times) * (len(times) - 1 - _FIRST)
    return tokens * counted / (times[-1] - times[_FIRST])


def checkpoint_is_there(folder: Path) -> bool:
    """Whether a training in a run folder has saved something."""
    return any(folder.glob("checkpoints/*/last.ckpt"))


def adapter_form(base: Path, r: int) -> Form:
    """What PEFT would save of an adapter on a base that is not loaded.

    Args:
        base: Folder of the base model.
        r: Rank.
    """
    with torch.device("meta"):
        model = trainable(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)), Stage3(lora=Lora(r=r)))
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    return {name.replace(".default.", "."): list(value.shape) for name, value in trained.items()}


def same_form(refiner: Path, expected: Form) -> str:
    """`equal`, or what an adapter's file has otherwise; all of it must be bfloat16.

    Args:
        refiner: The refiner's folder.
        expected: From `adapter_form`.
    """
    with safe_open(refiner / "adapter_model.safetensors", "pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        found = {name: list(part.get_shape()) for name, part in parts.items()}
        types = {part.get_dtype() for part in parts.values()}
    if found == expected and types == {"BF16"}:
        return "equal"
    return f"{len(found.keys() ^ expected.keys())} other names, types {', '.join(sorted(types))}"
