"""Fixtures: a tiny real language model, and the lab's rendered scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from rapo_lightning.lab.render import render_batch
from rapo_lightning.lab.scene import Scene, sample_scene
from rapo_lightning.recipe import components

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def _allow_test_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "ALLOWED_PACKAGES", [*components.ALLOWED_PACKAGES, "tests"])


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama with two layers and a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("llm")
    special = ["<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["a red ball rolls", "a blue square falls"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[1], pad_token=special[1])
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rendered() -> tuple[list[Scene], np.ndarray]:
    """200 held-out scenes and their true videos, `(200, 17, 64, 64, 3)`."""
    rng = np.random.default_rng(11)
    scenes = [sample_scene(rng, "heldout") for _ in range(200)]
    return scenes, render_batch(scenes, rng).permute(0, 1, 3, 4, 2).numpy()
