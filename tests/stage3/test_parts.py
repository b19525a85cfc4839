from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datamodules.pairs import IGNORED, PairDataModule, tokenize_pairs
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models.causal_model import load_causal_model
from rapo_lightning.models.refiner import refiner_messages
from rapo_lightning.prompting.pairs import SftPair
from rapo_lightning.recipe import Lora, Stage3
from rapo_lightning.stage3.module import RefinerModule

PAIR = SftPair(refiner_messages("a ball", "Rewrite."), [{"role": "assistant", "content": "a red ball"}], 0.5, "id")


def test_loss_is_on_the_completion_alone(language_model: Path) -> None:
    _, tokenizer = load_causal_model(str(language_model), "float32")
    tokens = tokenize_pairs([PAIR], tokenizer)[0]
    counted = [token for token, label in zip(tokens["input_ids"], tokens["labels"], strict=True) if label != IGNORED]
    assert tokenizer.decode(counted) == "a red ball<|im_end|>"
    assert tokenizer.decode(tokens["input_ids"][: -len(counted)]).endswith("<|im_start|>assistant\n")


def test_batches_are_padded_and_long_pairs_dropped(language_model: Path) -> None:
    _, tokenizer = load_causal_model(str(language_model), "float32")
    long = SftPair(PAIR.prompt, [{"role": "assistant", "content": "word " * 300}], 0.5, "long")
    short = SftPair(PAIR.prompt, [{"role": "assistant", "content": "x"}], 0.5, "short")
    with pytest.warns(UserWarning, match="1 pairs exceed"):
        data = PairDataModule([PAIR, short, long], [], tokenizer, 2, 200, seed=0)
    batch = next(iter(data.train_dataloader()))
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    assert int(batch["attention_mask"].sum(1).min()) < batch["input_ids"].shape[1]
    assert data.val_dataloader() == []
    for training, validation, kind in (([long], [], "training"), ([short], [long], "validation")):
        with pytest.raises(UserError, match=f"a {kind} pair that fits"), pytest.warns(UserWarning, match="exceed"):
            PairDataModule(training, validation, tokenizer, 2, 200, seed=0)
    assert tokenizer.padding_side == "left"


def test_checkpoint_holds_the_adapter_and_refuses_another(language_model: Path) -> None:
    def module(rank: int) -> RefinerModule:
        base, _ = load_causal_model(str(language_model), "float32")
        return RefinerModule(base, Stage3(lora=Lora(r=rank, target_modules=["q_proj"])), seed=0)

    first = module(2)
    state = first.state_dict()
    assert state
    assert all("lora_" in name for name in state)
    changed = {name: value + 1 for name, value in state.items()}
    first.load_state_dict(changed)
    assert all(torch.equal(first.state_dict()[name], changed[name]) for name in changed)
    with pytest.raises(RunError, match="belongs to another adapter"):
        first.load_state_dict(dict(list(state.items())[1:]))
