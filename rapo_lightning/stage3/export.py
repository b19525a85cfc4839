"""Writes a trained refiner as the folder that PEFT, vLLM, the hub and `Refiner` read."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError

from ..checkpoints import entries
from ..data.store import make_folder
from ..errors import RunError, UserError
from ..models.refiner_folder import CLOSED, CONFIG, VOCABULARY, RefinerFolder
from ..prompting.text import letter_runs, words

_INCOMING, _REPLACED = ".tmp", ".old"


def hub_name(checkpoint: str) -> str:
    """What others load a base model by: its hub id where the manifest knows one, else its own name."""
    entry = entries().get(checkpoint)
    return str(entry.hub["repo"]) if entry is not None and entry.hub is not None else checkpoint


def vocabulary(rows: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The words of training pairs, by which a user of the refiner can tell which words it has never seen.

    Args:
        rows: Rows of a view: a request, and what is learned as its answer.
    """
    turns = [(row["prompt"][-1], *row.get("chosen", row.get("completion", []))) for row in rows]
    return frozenset(word for both in turns for turn in both for word in words(turn["content"]))


def closed_vocabulary(rows: Sequence[Mapping[str, Any]], least: int) -> frozenset[str]:
    """The words that enough of what is learned as an answer has; none where `least` is 0.

    Args:
        rows: Rows of the view `sft`.
        least: Least number of answers.

    Raises:
        UserError: If no word is in so many.
    """
    texts = [row["completion"][-1]["content"] for row in rows] if least else []
    counts = Counter(word for text in texts for word in set(letter_runs(text)))
    found = frozenset(word for word, count in counts.items() if count >= least)
    if least and not found:
        raise UserError(
            f"`stage3.closed_vocabulary` keeps the words of at least so many targets. Got {least} and {len(texts)} targets, which "
            "share no word; lower it."
        )
    return found


def recover(folder: Path) -> None:
    """Puts a refiner in order after a kill in the middle of `export`: nothing half-written stays.

    Args:
        folder: The refiner's folder, there or not.
    """
    replaced = folder.with_name(folder.name + _REPLACED)
    if replaced.is_dir() and not folder.exists():
        os.replace(replaced, folder)
    for leftover in (replaced, folder.with_name(folder.name + _INCOMING)):
        shutil.rmtree(leftover, ignore_errors=True)


def export(settings: RefinerFolder, model: Any, tokenizer: Any, card: str) -> None:
    """Writes a refiner's folder; it appears whole or not at all, and an older one stays until then.

    Args:
        settings: What it says of itself, with the folder to write.
        model: The trained PEFT model.
        tokenizer: The base model's tokenizer with its chat template.
        card: Text of `README.md`.

    Raises:
        RunError: If the disk is full or read-only.
    """
    write_folder(
        settings.path,
        lambda place: _write(place, settings, model, tokenizer, card),
        "refiner",
        "choose another `--out`, and run the same command again: the training is kept",
    )


def copy_refiner(source: Path, folder: Path) -> None:
    """Puts a copy of a refiner in another place; it appears whole or not at all, and an older one stays until then.

    Args:
        source: A refiner's folder.
        folder: Where the copy goes; one that is there already is left as it is.

    Raises:
        RunError: If the disk is full or read-only.
    """
    recover(folder)
    if not _is_copy(source, folder):
        write_folder(
            folder, lambda place: _copy(source, place), "refiner", "choose another `--out`, and run the same command again"
        )  # fmt: skip


def _copy(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, dirs_exist_ok=True)


def _is_copy(source: Path, folder: Path) -> bool:
    names = sorted(path.name for path in source.iterdir())
    if not folder.is_dir() or sorted(path.name for path in folder.iterdir()) != names:
        return False
    # Files of the same size and time are the same: copies keep the time.
    return not any(filecmp.cmpfiles(source, folder, names)[1:])


def write_folder(folder: Path, write: Callable[[Path], None], what: str, advice: str) -> None:
    """Writes a folder that appears whole or not at all; an older one stays until then.

    Args:
        folder: The folder.
        write: Fills an empty folder.
        what: What is in it, for messages.
        advice: What to do beside making room where it cannot be written.

    Raises:
        RunError: If the disk is full or read-only.
    """
    incoming, replaced = (folder.with_name(folder.name + end) for end in (_INCOMING, _REPLACED))
    try:
        shutil.rmtree(incoming, ignore_errors=True)
        make_folder(incoming)
        write(incoming)
        if folder.exists():
            os.replace(folder, replaced)
        os.replace(incoming, folder)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"The {what} cannot be written to {folder}: {getattr(error, 'strerror', None) or error}. Make room or {advice}."
        ) from error
    shutil.rmtree(replaced, ignore_errors=True)


def _rounded(name: str, value: torch.Tensor) -> torch.Tensor:
    """A tensor of the adapter as it is stored.

    bfloat16 halves the file; for the matrices the rounding is far below what training at these rates resolves. DoRA's
    magnitudes are norms of weights, of which training changes less than bfloat16 tells apart.
    """
    return value.float() if "lora_magnitude_vector" in name else value.to(torch.bfloat16)


def _write(folder: Path, settings: RefinerFolder, model: Any, tokenizer: Any, card: str) -> None:
    # The name by which others find the base, not the folder it was loaded from here.
    model.peft_config["default"].base_model_name_or_path = hub_name(settings.base_model)
    weights = {name: _rounded(name, value) for name, value in model.state_dict().items() if "lora_" in name}
    # No embeddings: the base has them, and to find out PEFT would ask the hub.
    model.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
    tokenizer.save_pretrained(folder)
    config = yaml.safe_dump(settings.config(), sort_keys=False, allow_unicode=True)
    (folder / CONFIG).write_text(config, encoding="utf-8")
    for name, known in ((VOCABULARY, settings.vocabulary), (CLOSED, settings.closed)):
        if known or name == VOCABULARY:
            (folder / name).write_text("\n".join(sorted(known)) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")
