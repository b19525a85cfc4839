"""What a folder of a diffusers pipeline holds, looked at before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..checkpoints.weights import missing_weights
from ..errors import UserError

_INDEX = "model_index.json"
_WITHOUT_WEIGHTS = ("tokenizer", "scheduler", "feature_extractor", "image_processor", "processor")


def pipeline_index(folder: Path) -> dict[str, Any]:
    """A pipeline's own list of its parts.

    Raises:
        UserError: If there is none.
    """
    try:
        found = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"A pipeline's folder must have a readable {_INDEX}. Got {folder}, where it is "
            f"{'damaged' if (folder / _INDEX).is_file() else 'missing'}; name a checkpoint in diffusers' layout, or fetch it again."
        ) from error
    return found if isinstance(found, dict) else {}


def weighted_parts(folder: Path) -> dict[str, Path]:
    """Folders of a pipeline's parts that have weights, by name; parts that it leaves empty are not among them."""
    parts = {name: value for name, value in pipeline_index(folder).items() if isinstance(value, list) and any(value)}
    return {name: folder / name for name in parts if not name.startswith(_WITHOUT_WEIGHTS)}


def check_pipeline_folder(folder: Path, pipeline: str) -> None:
    """Checks that a folder holds a pipeline of this class with all of its parts.

    Args:
        folder: The folder.
        pipeline: Class name in `diffusers`; `DiffusionPipeline` is whichever the folder holds.

    Raises:
        UserError: If it holds another one, or a part or its weights are missing.
    """
    index = pipeline_index(folder)
    held = index.get("_class_name", pipeline)
    if pipeline not in (held, "DiffusionPipeline"):
        raise UserError(
            f"The checkpoint must hold a {pipeline}. Got {folder}, which holds a {held}; name another checkpoint, or set "
            f"`pipeline: {held}`, whose call may take other arguments."
        )
    named = [name for name, value in index.items() if isinstance(value, list) and any(value)]
    lacking = [f"{name}/" for name in named if not (folder / name).is_dir()]
    for name, part in weighted_parts(folder).items():
        if part.is_dir():
            lacking += [f"{name}/{file}" for file in missing_weights(part)]
    if lacking:
        raise UserError(
            f"A pipeline's folder must hold all of its parts. Got {folder} without {', '.join(lacking)}; fetch what is missing "
            "(`rapo-lightning ckpt verify` tells for a known checkpoint)."
        )
