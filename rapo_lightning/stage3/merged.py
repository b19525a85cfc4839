"""A refiner merged into its base: a plain model of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig

from ..checkpoints import ensure, loading, locate
from ..console import say
from ..data.resources import find
from ..errors import UserError
from ..models.refiner import Refiner
from ..models.refiner_folder import CONFIG, RefinerFolder, read_refiner
from ..models.transformers_language import TransformersLanguageModel
from ..prompting.chat import Sampling
from .export import hub_name, write_folder

_CARD = """\
---
{base_line}library_name: transformers
pipeline_tag: text-generation
tags: [prompt-refinement, text-to-video, rapo-lightning]
---
# A prompt refiner, merged into its base

`{base}` with the refiner of `{folder}` merged into its weights. It rewrites a person's short prompt into one that a video
model follows better, greedily or sampled as `generation_config.json` says. The conversation it answers has this system message,
and the request as the user's turn:

```text
{system}
```

Base identity {base_identity}, adapter identity {adapter}.
"""


def refiner_of_run(run: str) -> RefinerFolder:
    """The refiner in a run's folder, or in a folder that is one itself; nothing is loaded.

    Args:
        run: The folder as the user named it.

    Raises:
        UserError: If there is none, or it is damaged.
    """
    place = find(run)
    return read_refiner(place if place is not None and (place / CONFIG).is_file() else Path(run) / "refiner")


def check_target(folder: Path) -> None:
    """Looks whether a merged model can be put somewhere; whatever is there already stays.

    Raises:
        UserError: If there is something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"`--merged` writes a new folder. Got {str(folder)!r}, which is there already; name another.")


def write_merged(settings: RefinerFolder, folder: Path) -> None:
    """Merges a refiner into its base and writes weights, tokenizer, chat template and generation config, whole or not at all.

    Weights have the base's own type, of 16 bits bfloat16: those that `Refiner` answers with in that type.

    Args:
        settings: From `refiner_of_run`.
        folder: Folder to write.

    Raises:
        UserError: If the base has other weights than the refiner was trained on, or the folder is not empty.
        RunError: If the base cannot be loaded, or the disk is full or read-only.
    """
    check_target(folder)
    ensure([settings.base_model])
    model = TransformersLanguageModel(settings.base_model, _own_type(settings.base_model), adapter=settings.weights)
    refiner = Refiner(settings, model)
    refiner.check_base()
    model.load()
    _set_decoding(model.model.generation_config, settings.sampling)
    card = _card(settings, refiner.settings.identity())

    def write(place: Path) -> None:
        model.model.save_pretrained(place)
        model.tokenizer.save_pretrained(place)
        (place / "README.md").write_text(card, encoding="utf-8")

    write_folder(folder, write, "merged model", "run the same command again")
    say(f"merged model in {folder}")


def _own_type(base: str) -> Literal["float32", "bfloat16"]:
    with loading("language model", locate(base)):
        found = AutoConfig.from_pretrained(locate(base), trust_remote_code=False).dtype
    return "float32" if found in (None, torch.float32) else "bfloat16"


def _set_decoding(config: Any, sampling: Sampling) -> None:
    """Has plain `generate` decode as the refiner's folder says."""
    config.max_new_tokens = sampling.max_new_tokens
    if sampling.temperature > 0:
        config.do_sample = True
        config.temperature, config.top_p, config.top_k = sampling.temperature, sampling.top_p, sampling.top_k


def _card(settings: RefinerFolder, adapter: str) -> str:
    base = hub_name(settings.base_model)
    return _CARD.format(
        # The hub refuses a card whose base is a folder.
        base_line="" if find(base) else f"base_model: {base}\n",
        base=base,
        folder=settings.path.name if settings.path.name != "refiner" else f"{settings.path.parent.name}/refiner",
        system=settings.system,
        base_identity=settings.base_identity or "not recorded",
        adapter=adapter,
    )
