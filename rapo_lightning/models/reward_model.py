"""A trained reward model: how good a prompt is for a request, without a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from ..checkpoints import loading, locate, weights_identity
from ..data.resources import find
from ..errors import UserError
from .causal_model import check_fit, tokenizer_of
from .chat_template import encode_pairs
from .refiner import refiner_messages

CONFIG = "reward.yaml"


@dataclass(frozen=True)
class RewardFolder:
    """What a reward model's `reward.yaml` says.

    Attributes:
        base_model: Name of the base, as a recipe's `language_model.init_args.checkpoint` names it.
        system: The instruction of the conversations that it was trained on.
        base_identity: `checkpoints.weights_identity` of the base.
        training: Identity of the training.
    """

    base_model: str
    system: str
    base_identity: str = ""
    training: str = ""

    def text(self) -> str:
        """The contents of `reward.yaml`."""
        return yaml.safe_dump(asdict(self), sort_keys=False, allow_unicode=True)


def read_reward_folder(folder: str | Path) -> tuple[Path, RewardFolder]:
    """Reads a reward model's folder without loading a model; returns where it is, and what it says.

    Raises:
        UserError: If it is none.
    """
    place = find(folder)
    try:
        if place is None:
            raise FileNotFoundError(str(folder))
        return place, RewardFolder(**yaml.safe_load((place / CONFIG).read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, TypeError, UnicodeDecodeError) as error:
        raise UserError(
            f"A reward model is a folder with {CONFIG} and a PEFT adapter. Got {str(folder)!r}: {str(error)[:200].rstrip('.')}; "
            "train one with `finetune --stage3.objective reward`."
        ) from error


def load_classifier(checkpoint: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Loads a language model with a fresh head for one number, and its tokenizer; torch's seed decides how the head starts.

    Args:
        checkpoint: Name in the checkpoint manifest, folder, or hub id.
        dtype: Type of the weights.
    """
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    path, told = locate(checkpoint), logging.get_verbosity()
    # transformers warns that the head is fresh, which is why it is trained.
    logging.set_verbosity_error()
    with loading("language model", path):
        model = AutoModelForSequenceClassification.from_pretrained(
            path, dtype=dtype, num_labels=1, trust_remote_code=False
        )  # fmt: skip
        tokenizer = tokenizer_of(path)
    logging.set_verbosity(told)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


class RewardModel:
    """Scores prompts for requests; higher is better, differences count (Bradley and Terry).

    A function of request and prompt, so a `Refiner` chooses among candidates by it: `Refiner.from_pretrained(folder,
    candidates=4, faithfulness=RewardModel.from_pretrained(other), threshold=-inf)`.
    """

    def __init__(self, folder: str | Path, batch_size: int = 16) -> None:
        """Reads the folder; weights are loaded on first use.

        Args:
            folder: A run's `reward` folder.
            batch_size: Conversations per forward pass.

        Raises:
            UserError: If it is no reward model.
        """
        self.path, self.settings = read_reward_folder(folder)
        self.batch_size, self._model, self._tokenizer = batch_size, None, None

    @classmethod
    def from_pretrained(cls, folder: str | Path, batch_size: int = 16) -> RewardModel:
        """Opens a run's `reward` folder; arguments as in `__init__`."""
        return cls(folder, batch_size)

    def _loaded(self) -> tuple[Any, Any]:
        if self._model is None:
            from peft import PeftModel

            self._check_base()
            on_gpu = torch.cuda.is_available()
            base, self._tokenizer = load_classifier(
                self.settings.base_model, torch.bfloat16 if on_gpu else torch.float32
            )  # fmt: skip
            with loading("reward model", self.path):
                model = PeftModel.from_pretrained(base, str(self.path))
                check_fit(model, str(self.path), "default")
            self._model = model.to("cuda" if on_gpu else "cpu").eval()
        return self._model, self._tokenizer

    def _check_base(self) -> None:
        trained_on, base = self.settings.base_identity, self.settings.base_model
        if trained_on and weights_identity(base) != trained_on:
            raise UserError(
                f"The reward model in {self.path} was trained on other weights than {base!r} has here. Got {weights_identity(base)} instead "
                f"of {trained_on}; fetch those, or train it anew."
            )

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One number for each request and prompt, in order."""
        model, tokenizer = self._loaded()
        turns = [refiner_messages(request, self.settings.system) for request, _ in pairs]
        said = [[{"role": "assistant", "content": prompt}] for _, prompt in pairs]
        rows = [head + answer for head, answer in encode_pairs(tokenizer, turns, said)]
        found: list[float] = []
        for start in range(0, len(rows), self.batch_size):
            batch = tokenizer.pad(
                {"input_ids": rows[start : start + self.batch_size]}, padding_side="right", return_tensors="pt"
            )  # fmt: skip
            with torch.inference_mode():
                found += model(**batch.to(model.device)).logits[:, 0].float().tolist()
        return found

    def __call__(self, request: str, prompt: str) -> float:
        """The number for one request and prompt."""
        return self.scores([(request, prompt)])[0]
