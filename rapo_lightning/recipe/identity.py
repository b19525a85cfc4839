"""Hashes of what can change a result: classes, arguments, and the contents of the files they name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from .. import checkpoints
from ..data.resources import find, fingerprint
from .schema import Recipe
from .stages import Component, Draft

LAYOUT_ARGUMENTS = (
    "batch_size",
    "device",
    "workers",
    "url",
    "key_variable",
    "concurrency",
    "timeout",
    "retries",
    "job_timeout",
    "working_folder",
    "compile",
    "attention_backend",
)
"""Constructor arguments that say how fast something is computed or where, not what."""
_FILES = ("adapter", "examples", "exclusive", "rewriter", "discriminator", "graph")
"""Settings that name a file or folder whose contents count, not its name."""

_LORA = "lora"
_WITHIN = ("weight_name", "weight_name_2")
"""Arguments of a LoRA beside its `checkpoint` that name the files of it that are used: its other files do not count."""

_LONGEST_PATH = 256
"""Characters of a text that may name a file; longer ones are texts."""


def digest(parts: Any) -> str:
    """Hash of nested settings (16 hex digits)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def named(model: Component) -> Component:
    """A component's class and arguments; having no arguments and an empty dict of them are the same."""
    return {"class_path": model.get("class_path", ""), "init_args": model.get("init_args", {})}


def strip_layout(value: Any) -> Any:
    """A copy of nested settings without `LAYOUT_ARGUMENTS`."""
    if isinstance(value, dict):
        return {key: strip_layout(item) for key, item in value.items() if key not in LAYOUT_ARGUMENTS}
    if isinstance(value, list):
        return [strip_layout(item) for item in value]
    return value


def _contents(key: str, value: Any, within: Mapping[str, Any]) -> Any:
    """What an argument stands for: the weights of a checkpoint, the contents of a file, or itself.

    Args:
        key: Its name.
        value: Its value.
        within: The files of a checkpoint that are used, by the argument that names them; empty for all of them.
    """
    if not isinstance(value, str) or not value:
        return value
    if key == "checkpoint":
        return checkpoints.identity(value, [Path(name).as_posix() for name in within.values()])
    if key in within:
        return value
    if key in _FILES:
        return fingerprint(value)
    path = find(value) if len(value) < _LONGEST_PATH else None
    return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and path.is_file() else value


def with_contents(settings: Mapping[str, Any], of: str = "") -> dict[str, Any]:
    """Settings with the files they name replaced by what these hold, and without `LAYOUT_ARGUMENTS`.

    Args:
        settings: The settings.
        of: The argument that they are the value of, empty for none.
    """
    stripped = strip_layout(settings)
    within = {name: str(stripped[name]) for name in _WITHIN if of == _LORA and stripped.get(name)}
    return {
        key: with_contents(v, key) if isinstance(v, dict) else _contents(key, v, within) for key, v in stripped.items()
    }


def component_identity(model: Component) -> dict[str, Any]:
    """What decides the answers of a component: its class, its arguments, the weights and files they name."""
    return with_contents(named(model))


def templates_identity(room: str) -> str:
    """Hash of the instruction texts of a stage, or of the verifiers."""
    folder = Path(str(files("rapo_lightning"))) / room / "templates"
    return digest([[path.name, path.read_text(encoding="utf-8")] for path in sorted(folder.glob("*.txt"))])


def settings_hash(recipe: Recipe) -> str:
    """Hash of a recipe's models, stages 1 and 2 and seed by their names alone, so that it needs no weights."""
    models = [recipe.video_model, recipe.language_model, recipe.vision_language_model, recipe.embedder]
    stage2 = {**_of_a_rewrite(recipe), **_stopping(recipe)}
    stage1 = [asdict(recipe.stage1), recipe.graph] if recipe.stage2.start == "stage1" else []
    return digest(strip_layout([[named(model) for model in models], stage2, stage1, recipe.seed]))


_NOT_IN_A_ROW = ("rounds", "batch_size", "save_videos", "start")
"""Settings of stage 2 that leave every row as it is; more rounds add rows. So does `ranking`, but for a fine-tuned rewriter,
which is shown the best attempts, and where it decides when a trajectory ends."""
_NEWER = {"memory_from": "best", "memory_tokens": 0, "request": "user", "draft": asdict(Draft())}
"""Settings that rows of before were made without, at what those rows had: there they are no part of a hash."""
_NOT_IN_ALIGNMENT = ("batch_size", "extractor", "degrader", "captions", "degradations")


def _of_a_rewrite(recipe: Recipe) -> dict[str, Any]:
    """Stage 2 without what leaves a rewrite as it is, but with the verifiers."""
    skipped = {"stop", *_NOT_IN_A_ROW, *(() if recipe.stage2.rewriter else ("ranking",))}
    settings = {name: value for name, value in asdict(recipe.stage2).items() if name not in skipped}
    return {name: value for name, value in settings.items() if name not in _NEWER or value != _NEWER[name]}


def _stopping(recipe: Recipe) -> dict[str, Any]:
    """What decides whether a row is its trajectory's last; nothing where all rounds are run, as in rows of before."""
    stop = recipe.stage2.stop
    if not stop.ceiling and not stop.patience:
        return {}
    return {"stop": asdict(stop), **({"ranking": asdict(recipe.stage2.ranking)} if stop.patience else {})}


def rewrite_settings(recipe: Recipe) -> dict[str, Any]:
    """What decides a rewrite beside the rounds so far: models, settings, examples, instruction texts."""
    stage2 = {name: value for name, value in _of_a_rewrite(recipe).items() if name != "verifiers"}
    return {
        "models": [component_identity(recipe.language_model), component_identity(recipe.embedder)],
        "stage2": with_contents(stage2),
        "templates": templates_identity("stage2"),
        "seed": recipe.seed,
        **_other_base(recipe, recipe.stage2.rewriter),
    }


def _other_base(recipe: Recipe, rewriter: str) -> dict[str, bool]:
    """Whether a fine-tuned rewriter may stand on another base; nothing where it may not, as in rows of before."""
    return {"allow_other_base": True} if rewriter and recipe.allow_other_base else {}


def row_hash(recipe: Recipe) -> str:
    """Hash of everything that can change a trajectory row, and of nothing else (16 hex digits).

    Needs the models' files, whose contents are part of it. The number of rounds, batch sizes, devices and whether videos
    are saved do not change a row; stage 1 does where the loop starts from it.
    """
    verifiers = [component_identity(item) for item in recipe.stage2.verifiers]
    start = align_hash(recipe) if recipe.stage2.start == "stage1" else ""
    models = [component_identity(model) for model in (recipe.video_model, recipe.vision_language_model)]
    judged = [*models, verifiers, templates_identity("verifiers")]
    stopping = _stopping(recipe)
    return digest([*judged, rewrite_settings(recipe), start, *([stopping] if stopping else [])])


def align_hash(recipe: Recipe) -> str:
    """Hash of everything that can change a row of stage 1 (16 hex digits), contents of its files included."""
    stage1 = {name: value for name, value in asdict(recipe.stage1).items() if name not in _NOT_IN_ALIGNMENT}
    models: Sequence[Any] = [component_identity(recipe.language_model), component_identity(recipe.embedder)]
    settings = {**with_contents(stage1), **_other_base(recipe, recipe.stage1.rewriter)}
    return digest([models, settings, fingerprint(recipe.graph), templates_identity("stage1"), recipe.seed])
