"""The trained refiner, ready to plug in: `pipe(prompt=refine("a cat on a sofa"))`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, overload

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser
from safetensors import SafetensorError, safe_open

from ..checkpoints import identity, weights_identity
from ..console import say
from ..data.ids import derived_seed
from ..data.resources import find
from ..errors import UserError
from ..prompting.chat import Messages, Sampling
from .base import LanguageModel
from .transformers_language import TransformersLanguageModel

CONFIG = "refiner.yaml"
WEIGHTS = "adapter_model.safetensors"
_ADAPTER = ("adapter_config.json", WEIGHTS)
VOCABULARY = "vocabulary.txt"
"""Words of the training pairs, one a line; not every refiner has it."""
_REQUIRED = ("base_model", "system", "sampling", "seed")
"""Fields of `refiner.yaml` without which it was cut off, or is none."""
_NO_FIELDS = {"path", "vocabulary"}


@dataclass(frozen=True)
class RefinerFolder:
    """A refiner's folder, read and checked; no model is loaded."""

    path: Path
    """The folder."""
    base_model: str
    """Name of the base model, as a recipe's `language_model.init_args.checkpoint` names it."""
    system: str
    """The whole instruction that the refiner was trained with."""
    sampling: Sampling
    """How it answers."""
    seed: int = 0
    """Seed of its answers, if it samples."""
    base_identity: str = ""
    """`checkpoints.weights_identity` of the base it was trained on; empty where it was not recorded."""
    training: str = ""
    """Identity of the training that made it; empty where it was not recorded."""
    vocabulary: frozenset[str] = frozenset()
    """Words of its training pairs; empty if they are not known."""
    adapter: str = ""
    """Checkpoint of the adapter, where it lies elsewhere than in this folder, such as one that others published."""

    @property
    def weights(self) -> str:
        """Folder, manifest name or hub id of the PEFT adapter."""
        return self.adapter or str(self.path)

    def config(self) -> dict[str, Any]:
        """The fields of `refiner.yaml`: all that the adapter's own files do not say."""
        return {name: value for name, value in asdict(self).items() if name not in _NO_FIELDS and value != ""}

    def identity(self) -> str:
        """Hash of the adapter and of `refiner.yaml` (16 hex digits): all that an answer depends on but the base."""
        adapter = identity(self.adapter).encode() if self.adapter else (self.path / WEIGHTS).read_bytes()
        contents = [adapter, (self.path / CONFIG).read_bytes()]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in contents)).hexdigest()[:16]


def refiner_messages(request: str, system: str) -> Messages:
    """The conversation a refiner answers, the same in training and in use."""
    return [{"role": "system", "content": system}, {"role": "user", "content": request}]


def read_refiner(folder: str | Path, base: str | None = None) -> RefinerFolder:
    """Reads and checks a refiner's folder without loading a model.

    Args:
        folder: A run's `refiner` folder.
        base: Name of the base model that must be under the adapter; None takes the one it was trained on.

    Raises:
        UserError: If the folder is no refiner, one of its files is damaged, or its base is another one than `base`.
    """
    path = find(folder)
    if path is None or not (path / CONFIG).is_file():
        raise _none(folder, str(folder) if path is None else CONFIG)
    settings = _read_config(path)
    missing = [] if settings.adapter else [name for name in _ADAPTER if not (path / name).is_file()]
    if missing:
        raise _none(folder, ", ".join(missing))
    if base is not None and base != settings.base_model:
        raise UserError(
            f"The adapter in {path} was trained on {settings.base_model!r}. Got the base model {base!r}; set "
            f"`language_model.init_args.checkpoint` to {settings.base_model!r} or fine-tune anew."
        )
    if not settings.adapter:
        _check_weights(path / WEIGHTS)
    return settings


def _none(folder: str | Path, missing: str) -> UserError:
    return UserError(
        f"A refiner is a folder with {CONFIG} and a PEFT adapter. Got {str(folder)!r}, where {missing} is missing; train one "
        "with `rapo-lightning finetune`."
    )


def _read_config(path: Path) -> RefinerFolder:
    known = path / VOCABULARY
    try:
        vocabulary = frozenset(known.read_text(encoding="utf-8").split()) if known.is_file() else frozenset()
        loaded = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(loaded, dict):
            raise TypeError(f"a {type(loaded).__name__} instead of fields")
        missing = [name for name in _REQUIRED if name not in loaded]
        if missing:
            raise ValueError(f"no {', '.join(missing)}")
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(RefinerFolder, skip=_NO_FIELDS)
        fields = parser.instantiate(parser.parse_object(loaded))
        if not fields.system.strip():
            raise ValueError("no instruction in `system`")
    except (yaml.YAMLError, UnicodeDecodeError, ArgumentError, TypeError, ValueError, KeyError) as error:
        found = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(
            f"A refiner's {CONFIG} must say base_model, system, sampling and seed. Got {path / CONFIG}: {found}; restore "
            "the file, or run `finetune` again without the folder."
        ) from error
    return RefinerFolder(path=path, vocabulary=vocabulary, **dict(fields.items()))


def _check_weights(path: Path) -> None:
    try:
        with safe_open(path, "pt") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"A refiner's adapter must be a whole safetensors file. Got {path}: {error}; copy it anew, or run `finetune` "
            "again without the folder."
        ) from error


@cache
def _compare_base(name: str, trained_on: str) -> None:
    """Says, once, if the base under an adapter is not the one it was trained on; a quantized copy may stand in."""
    if trained_on and weights_identity(name) != trained_on:
        say(
            f"The base model {name!r} here has other weights than the one this refiner was trained on: answers may differ.",
            error=True,
        )


class Refiner:
    """Rewrites prompts for the video model it was trained for.

    Example:
        >>> refine = Refiner.from_pretrained("ckpt/lab/refiner")  # doctest: +SKIP
        >>> refine("a crimson ball falling down")  # doctest: +SKIP
    """

    def __init__(self, settings: RefinerFolder, model: LanguageModel) -> None:
        """Takes the parts; use `from_pretrained` for a folder alone.

        Args:
            settings: What `read_refiner` found.
            model: The base model with the folder's adapter.
        """
        self.settings, self.model = settings, model

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, base: str | None = None, batch_size: int = 16, device: str | torch.device | None = None
    ) -> Refiner:
        """Opens a refiner folder with a model of its own; weights are loaded on first use.

        Args:
            folder: A run's `refiner` folder.
            base: Name of the base model that must be under the adapter; None takes the one it was trained on.
            batch_size: Prompts per generation.
            device: Device to move to; None leaves the model where the caller puts it (CPU at first).

        Raises:
            UserError: As `read_refiner`.
        """
        settings = read_refiner(folder, base)
        model = TransformersLanguageModel(settings.base_model, adapter=settings.weights, batch_size=batch_size)
        if device is not None:
            model.to(torch.device(device))
        return cls(settings, model)

    @property
    def folder(self) -> Path:
        """The refiner's folder."""
        return self.settings.path

    @property
    def vocabulary(self) -> frozenset[str]:
        """Words of its training pairs; empty if they are not known."""
        return self.settings.vocabulary

    def identity(self) -> str:
        """Identity of the adapter and its settings; see `RefinerFolder.identity`."""
        return self.settings.identity()

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
        settings = self.settings
        # Not before this: a base that was not fetched yet has no weights to compare.
        _compare_base(settings.base_model, settings.base_identity)
        conversations = [refiner_messages(text, settings.system) for text in prompts]
        seeds = [derived_seed(settings.seed, text) for text in prompts]
        return [" ".join(answer.split()) for (answer,) in self.model.complete(conversations, seeds, settings.sampling)]
