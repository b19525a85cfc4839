"""Small stand-ins that tests name in recipes, and the tiny recipe itself."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

ROOT = Path(__file__).parent.parent
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class WordEmbedder:
    """Unit vectors of hashed words: deterministic and instant, similar texts are near."""

    name = "words"

    def load(self) -> None:
        pass

    def to(self, device: torch.device) -> None:
        pass

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.full((len(texts), 64), 1e-3, dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in text.lower().split():
                row[int(hashlib.md5(word.encode()).hexdigest(), 16) % 64] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def tiny_language_model(folder: Path, heads: int = 4) -> Path:
    """Writes a random Llama with two layers and a byte-level tokenizer."""
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
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=2, max_position_embeddings=4096, eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class Silent(WordEmbedder):
    """A language model without weights that answers nothing, and prefers no choice."""

    name = "silent"

    def complete(
        self, conversations: Sequence[object], seeds: Sequence[int], sampling: object, count: int = 1
    ) -> list[list[str]]:
        return [[""] * count for _ in conversations]

    def choose(self, conversations: Sequence[object], openings: Sequence[str], choices: Sequence[str]) -> np.ndarray:
        return np.full((len(conversations), len(choices)), 1 / len(choices))


class Calling(WordEmbedder):
    """Takes a function, as a recipe could name one."""

    def __init__(self, function: Callable[[str], str]) -> None:
        self.function = function


def tiny_recipe(folder: Path, language_model: Path, **changes: Any) -> Path:
    """Writes a recipe that runs all stages in seconds: real classes, the lab's video model with one step."""
    prompts = folder / "prompts.csv"
    lines = (ROOT / "recipes/lab/prompts_train.csv").read_text().splitlines()
    prompts.write_text("\n".join(lines[:7]) + "\n")
    recipe: dict[str, Any] = {
        "name": "tiny",
        "prompts": str(prompts),
        "video_model": {
            "class_path": "rapo_lightning.models.DiffusersVideoModel",
            "init_args": {
                "checkpoint": "lab/video_model",
                "dtype": "float32",
                "fps": 8.0,
                "batch_size": 2,
                "call": {
                    "height": 64, "width": 64, "num_frames": 5, "num_inference_steps": 1, "guidance_scale": 1.0,
                    "max_sequence_length": 64,
                },
            },
        },
        "language_model": {
            "class_path": "rapo_lightning.models.TransformersLanguageModel",
            "init_args": {"checkpoint": str(language_model), "batch_size": 3, "dtype": "float32"},
        },
        "embedder": {"class_path": "tests.helpers.WordEmbedder"},
        "stage2": {
            "rounds": 3,
            "candidates": 2,
            "batch_size": 2,
            "physics_tokens": 4,
            "sampling": {"max_new_tokens": 6},
            "verifiers": [
                {"class_path": "rapo_lightning.verifiers.TemporalCoherence"},
                {"class_path": "rapo_lightning.verifiers.TextFidelity"},
                {"class_path": "rapo_lightning.lab.verifier.LabOracle"},
            ],
        },
        "stage3": {
            "epochs": 3,
            "sampling": {"temperature": 0.0, "max_new_tokens": 6},
            "pairs": [{"filter": "winner"}, {"filter": "margin", "least": -1.0}, {"filter": "words"}],
            "validation_share": 0.3,
            "lora": {"r": 2, "alpha": 2, "dropout": 0.1},
            "optimizer": {"lr": 0.01, "batch_size": 2, "micro_batch_size": 1},
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "evaluation": {
            "prompts": "recipes/lab/prompts_heldout.csv",
            "limit": 3,
            "seeds": 1,
            "metric": {"class_path": "rapo_lightning.lab.verifier.LabOracle"},
        },
    }  # fmt: skip
    for key, value in changes.items():
        place = recipe
        *parents, last = key.split("__")
        for name in parents:
            place = place[name]
        place[last] = value
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def run_cli(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own, from the checkout's root."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), options.pop("path", "")]),
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "rapo_lightning", *arguments],
        cwd=options.pop("cwd", ROOT), env=environment, capture_output=True, text=True, timeout=500, **options,
    )  # fmt: skip


class Letters:
    """A reward for letters from a to z, which a model that knows nothing can learn."""

    name = "letters"
    uses: Sequence[str] = ()

    def rewards(self, refined: Sequence[Any], tools: object) -> list[float]:
        return [sum("a" <= letter <= "z" for letter in item.refined) / max(len(item.refined), 1) for item in refined]


class BadReward(Letters):
    """A reward that fails in the way it is told to."""

    def __init__(self, how: str = "raise") -> None:
        self.how = how

    def rewards(self, refined: Sequence[Any], tools: object) -> list[float]:
        if self.how == "raise":
            raise ZeroDivisionError("no videos")
        return [float("nan")] * len(refined) if self.how == "nan" else [1.0]
