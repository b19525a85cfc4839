"""The trained refiner, ready to plug in: `pipe(prompt=refine("a cat on a sofa"))`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import overload

import torch
import yaml

from ..data.ids import derived_seed
from ..data.resources import find
from ..errors import UserError
from ..models.transformers_language import TransformersLanguageModel
from ..prompting.chat import Sampling
from ..prompting.text import words
from .pairs import SftPair, refiner_messages

CONFIG = "refiner.yaml"
VOCABULARY = "vocabulary.txt"
"""Words of the training pairs, one a line; not every refiner has it."""


class Refiner:
    """Rewrites prompts for the video model it was trained for.

    Example:
        >>> refine = Refiner.from_pretrained("ckpt/lab/refiner")  # doctest: +SKIP
        >>> refine("a crimson ball falling down")  # doctest: +SKIP
    """

    def __init__(
        self, model: TransformersLanguageModel, system: str, sampling: Sampling, seed: int = 0,
        vocabulary: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        """Takes the parts; use `from_pretrained` for a folder.

        Args:
            model: The language model with its adapter.
            system: System message that the refiner was trained with.
            sampling: How it answers.
            seed: Seed of the answers if it samples.
            vocabulary: Words of its training pairs; empty if they are not known.
        """
        self.model, self.system, self.sampling, self.seed = model, system, sampling, seed
        self.vocabulary = vocabulary

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, base: str | None = None, batch_size: int = 16, device: str | torch.device | None = None
    ) -> Refiner:
        """Opens a refiner folder; weights are loaded on first use.

        Args:
            folder: A run's `refiner` folder.
            base: The base model that must be under the adapter; None takes the one it was trained on.
            batch_size: Prompts per generation.
            device: Device to move to; None leaves the model where the caller puts it (CPU at first).

        Raises:
            UserError: If the folder is no refiner, or its base is another one than `base`.
        """
        path = find(folder)
        missing = [] if path else [str(folder)]
        if path is not None:
            needed = (CONFIG, "adapter_config.json", "adapter_model.safetensors")
            missing = [name for name in needed if not (path / name).is_file()]
        if path is None or missing:
            raise UserError(
                f"A refiner is a folder with {CONFIG} and a PEFT adapter. Got {str(folder)!r}, where "
                f"{', '.join(missing)} is missing; train one with `rapo-lightning finetune`."
            )
        config = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))
        trained_on = config["base_model"]
        if base is not None and base != trained_on:
            raise UserError(
                f"The adapter in {path} was trained on {trained_on!r}. Got the base model {base!r}; set "
                f"`language_model.init_args.checkpoint` to {trained_on!r} or fine-tune anew."
            )
        model = TransformersLanguageModel(trained_on, adapter=str(path), batch_size=batch_size)
        known = path / VOCABULARY
        vocabulary = frozenset(known.read_text(encoding="utf-8").split()) if known.is_file() else frozenset()
        refiner = cls(model, config["system"], Sampling(**config["sampling"]), config.get("seed", 0), vocabulary)
        if device is not None:
            model.to(torch.device(device))
        return refiner

    @overload
    def __call__(self, prompt: str) -> str: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, prompt: Sequence[str]) -> list[str]: ...
    def __call__(self, prompt: str | Sequence[str]) -> str | list[str]:
        """Refines one prompt or several; an empty answer falls back to the prompt itself."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        refined = [answer or text for answer, text in zip(self.answers(prompts), prompts, strict=True)]
        return refined[0] if isinstance(prompt, str) else refined

    def answers(self, prompts: Sequence[str]) -> list[str]:
        """The model's own answer to each prompt on one line, empty where it gave none."""
        conversations = [refiner_messages(text, self.system) for text in prompts]
        seeds = [derived_seed(self.seed, text) for text in prompts]
        return [" ".join(answer.split()) for (answer,) in self.model.complete(conversations, seeds, self.sampling)]


def write_vocabulary(folder: Path, pairs: Sequence[SftPair]) -> None:
    """Writes the words of training pairs, so that a user of the refiner can tell which words it has never seen."""
    found = {word for pair in pairs for turn in (pair.prompt[-1], *pair.completion) for word in words(turn["content"])}
    (folder / VOCABULARY).write_text("\n".join(sorted(found)) + "\n", encoding="utf-8")


def write_config(folder: Path, base_model: str, system: str, sampling: Sampling, seed: int) -> None:
    """Writes `refiner.yaml`, and the base model's name into the adapter's own config."""
    config = {"base_model": base_model, "system": system, "sampling": asdict(sampling), "seed": seed}
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    adapter_config = folder / "adapter_config.json"
    fields = json.loads(adapter_config.read_text(encoding="utf-8"))
    fields["base_model_name_or_path"] = base_model
    adapter_config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
