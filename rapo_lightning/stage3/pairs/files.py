"""The views as parquet, and on the hub."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from datasets import Dataset

from ...console import say
from ...data.store import make_folder
from ...errors import RunError, UserError
from ...running.folder import write_text
from ..hub import push_folder
from .views import FEATURES, PairViews

_OPENING = "Training pairs of a prompt refiner for text-to-video, made by rapo-lightning"
"""By this a card is known to be one of an earlier export."""
_CARD = """\
---
configs:
{configs}tags: [prompt-refinement, text-to-video, rapo-lightning]
---
{opening}: {funnel}. In TRL's conversational format, with the
prompt's id and by how much the mean score exceeds that of round 0 (`sft`, `unpaired`) or of the rejected round (`preference`). No
prompt is in two splits.
"""
_VIEW = """\
- config_name: {name}
  data_files:
"""
_SPLIT = """\
  - {{split: {split}, path: {name}/{split}.parquet}}
"""


def write_views(views: PairViews, folder: Path) -> None:
    """Writes `<view>/train.parquet` and `validation.parquet` of each view that has examples, and a card.

    Args:
        views: The pairs.
        folder: Folder to write; an earlier export in it is replaced.

    Raises:
        UserError: If the folder has a README.md of something else, such as a run's or a refiner's.
        RunError: If the disk is full or read-only.
    """
    card = folder / "README.md"
    if card.is_file() and _OPENING not in card.read_text(encoding="utf-8", errors="replace"):
        raise UserError(
            f"`--views` writes a folder of its own, with a README.md. Got {folder}, whose README.md is of something else; name a new folder."
        )
    configs = ""
    for name in FEATURES:
        splits = views.view(name)
        filled = {split: data for split, data in splits.items() if len(data)}
        for split in splits.keys() - filled.keys():
            (folder / name / f"{split}.parquet").unlink(missing_ok=True)
        for split, data in filled.items():
            _write(data, folder / name / f"{split}.parquet")
        if filled:
            configs += _VIEW.format(name=name) + "".join(_SPLIT.format(name=name, split=split) for split in filled)
        told = ", ".join(f"{len(data)} {split}" for split, data in filled.items())
        say(f"{name}: {told + f' in {folder / name}' if told else 'no examples, nothing written'}")
    write_text(card, _CARD.format(configs=configs, opening=_OPENING, funnel=views.funnel))


def _write(data: Dataset, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        make_folder(path.parent)
        data.to_parquet(str(temporary))
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}. Make room or choose another folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def push_views(folder: Path, repository: str, private: bool) -> None:
    """Puts an exported folder on the hub, as a dataset with a configuration for each view; see `hub.push_folder`.

    Args:
        folder: What `write_views` wrote.
        repository: `OWNER/NAME`; made if it is not there.
        private: Whether a new one is seen by its owner alone.
    """
    push_folder(
        folder,
        repository,
        private,
        "dataset",
        "The views",
        allow_patterns=["README.md", "*/train.parquet", "*/validation.parquet"],
        delete_patterns=["*/*.parquet"],
    )
