from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datamodules.packs import IGNORED
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models.causal_model import load_causal_model
from rapo_lightning.recipe import Lora, Stage3
from tests.stage3.runs import data_module, refiner_module, sft_row

PAIR = sft_row("a ball", "a red ball")


def test_loss_is_on_the_completion_alone(language_model: Path) -> None:
    _, tokenizer = load_causal_model(str(language_model), "float32")
    (tokens,) = data_module(tokenizer, [PAIR], [], 1).training
    counted = [token for token, label in zip(tokens["input_ids"], tokens["labels"], strict=True) if label != IGNORED]
    assert tokenizer.decode(counted) == "a red ball<|im_end|>"
    assert tokenizer.decode(tokens["input_ids"][: -len(counted)]).endswith("<|im_start|>assistant\n")


def test_batches_are_padded_and_long_pairs_dropped(language_model: Path) -> None:
    _, tokenizer = load_causal_model(str(language_model), "float32")
    long, short = sft_row("a ball", "word " * 300), sft_row("a ball", "x")
    with pytest.warns(UserWarning, match="1 pairs exceed"):
        data = data_module(tokenizer, [PAIR, short, long], [], 2, 200)
    (batch,) = next(iter(data.train_dataloader()))
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    assert int(batch["attention_mask"].sum(1).min()) < batch["input_ids"].shape[1]
    assert data.val_dataloader() == []
    for training, validation, kind in (([long], [], "training"), ([short], [long], "validation")):
        with pytest.raises(UserError, match=f"a {kind} pair that fits"):
            data_module(tokenizer, training, validation, 2, 200)
    assert tokenizer.padding_side == "left"


def test_checkpoint_holds_the_adapter_and_refuses_another(language_model: Path) -> None:
    stage3 = Stage3(lora=Lora(r=2, target_modules=["q_proj"]))
    first, _ = refiner_module(language_model, stage3)
    state = first.state_dict()
    assert state
    assert all("lora_" in name for name in state)
    changed = {name: value + 1 for name, value in state.items()}
    first.load_state_dict(changed)
    assert all(torch.equal(first.state_dict()[name], changed[name]) for name in changed)
    with pytest.raises(RunError, match="belongs to another adapter"):
        first.load_state_dict(dict(list(state.items())[1:]))
