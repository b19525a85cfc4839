"""A refiner's folder: what is in it, and whether it is whole and fits its base; no model is loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser
from safetensors import SafetensorError, safe_open

from ..checkpoints import identity
from ..data.resources import find
from ..errors import UserError
from ..prompting.chat import Sampling

CONFIG = "refiner.yaml"
ADAPTER_CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
VOCABULARY = "vocabulary.txt"
"""Words of the training pairs, one a line; not every refiner has it."""
CLOSED = "closed_vocabulary.txt"
"""The words that the refiner may use, one a line; one without it may use any."""
_REQUIRED = ("base_model", "system", "sampling", "seed")
"""Fields of `refiner.yaml` without which it was cut off, or is none."""
_OF_LORA: dict[str, type | tuple[type, ...]] = {
    "r": int, "lora_alpha": (int, float), "target_modules": (list, str), "base_model_name_or_path": str,
}  # fmt: skip
"""Fields of `adapter_config.json` without which neither PEFT nor vLLM can place the adapter."""
_NO_FIELDS = {"path", "vocabulary", "closed"}


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
    closed: frozenset[str] = frozenset()
    """The words that it may use; empty if it may use any."""
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
        """Hash of the adapter, of `refiner.yaml` and of a closed vocabulary (16 hex digits): all that an answer depends on but the base."""
        adapter = identity(self.adapter).encode() if self.adapter else (self.path / WEIGHTS).read_bytes()
        contents = [adapter, (self.path / CONFIG).read_bytes()]
        if self.closed:
            contents.append("\n".join(sorted(self.closed)).encode())
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in contents)).hexdigest()[:16]


def read_refiner(folder: str | Path, base: str | None = None, allow_other_base: bool = False) -> RefinerFolder:
    """Reads and checks a refiner's folder without loading a model.

    Args:
        folder: A run's `refiner` folder.
        base: Name of the base model that must be under the adapter; None takes the one it was trained on.
        allow_other_base: Whether the base may have another name than the one it was trained on, such as a quantized copy.

    Raises:
        UserError: If the folder is no refiner, one of its files is damaged, or its base is another one than `base`.
    """
    path = find(folder)
    if path is None or not (path / CONFIG).is_file():
        raise _none(folder, str(folder) if path is None else CONFIG)
    settings = _read_config(path)
    files = (ADAPTER_CONFIG, WEIGHTS)
    missing = [] if settings.adapter else [name for name in files if not (path / name).is_file()]
    if missing:
        raise _none(folder, ", ".join(missing))
    if base is not None and base != settings.base_model and not allow_other_base:
        raise UserError(
            f"The adapter in {path} was trained on {settings.base_model!r}. Got the base model {base!r}; set "
            f"`language_model.init_args.checkpoint` to {settings.base_model!r} or fine-tune anew, or, where it is a copy of "
            "that one, say `allow_other_base`."
        )
    if not settings.adapter:
        _check_adapter_config(path / ADAPTER_CONFIG)
        _check_weights(path / WEIGHTS)
    return settings


def _none(folder: str | Path, missing: str) -> UserError:
    return UserError(
        f"A refiner is a folder with {CONFIG} and a PEFT adapter. Got {str(folder)!r}, where {missing} is missing; train one "
        "with `rapo-lightning finetune`."
    )


def _read_config(path: Path) -> RefinerFolder:
    vocabulary, closed = read_words(path / VOCABULARY), read_words(path / CLOSED)
    try:
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
    return RefinerFolder(path=path, vocabulary=vocabulary, closed=closed, **dict(fields.items()))


def read_words(path: Path) -> frozenset[str]:
    """Words of a file of a refiner's folder; none where it is not there.

    Raises:
        UserError: If it is no text.
    """
    try:
        return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else frozenset()
    except UnicodeDecodeError as error:
        raise UserError(
            f"A refiner's {path.name} must be UTF-8, a word a line. Got {path}: {error}; restore the file, or delete it and do without."
        ) from error


def _check_adapter_config(path: Path) -> None:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in _OF_LORA if not loaded.get(name)]
        if missing:
            raise ValueError(f"no {', '.join(missing)}")
        wrong = [name for name, kinds in _OF_LORA.items() if not isinstance(loaded[name], kinds)]
        if wrong:
            raise ValueError(f"{loaded[wrong[0]]!r} as {wrong[0]}")
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"A refiner's {ADAPTER_CONFIG} must say {', '.join(_OF_LORA)}. Got {path}: {error}; copy it anew, or run "
            "`finetune` again without the folder."
        ) from error


def _check_weights(path: Path) -> None:
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"A refiner's adapter must be a whole safetensors file. Got {path}: {error}; copy it anew, or run `finetune` "
            "again without the folder."
        ) from error
    if not any(".lora_A." in name for name in names):
        raise UserError(
            f"A refiner's adapter must hold LoRA weights. Got {path} with {len(names)} tensors and none of these; copy it "
            "anew, or run `finetune` again without the folder."
        )
