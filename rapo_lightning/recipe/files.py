"""Finds, reads and writes recipe files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from ..data.resources import shipped_recipes
from ..errors import UserError
from .components import allow_packages
from .schema import Recipe
from .secrets import refuse_secrets


def recipe_path(name: str) -> Path:
    """Path of a recipe, given its path or the bare name of a shipped one.

    Raises:
        UserError: If there is none.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = shipped_recipes()
    stem = Path(name).stem if name in (f"recipes/{Path(name).name}", Path(name).name) else name
    if stem in shipped:
        return shipped[stem]
    raise UserError(f"A recipe is a YAML file or one of {', '.join(shipped)}. Got {name!r}, which is neither.")


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"A recipe must be YAML in UTF-8. Got {path}: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"A recipe must be a mapping of sections. Got {path}, which holds a {type(loaded).__name__}.")
    return loaded


def place(recipe: dict[str, Any], key: str, value: Any, word: str) -> None:
    """Sets a nested value of a recipe that was read."""
    place: Any = recipe
    *parents, last = key.split(".")
    for name in parents:
        place = place.setdefault(name, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise UserError(f"An option can set fields, not items of a list. Got `{word}`; edit the recipe instead.")
    place[last] = value


def _value(text: str, key: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"`--{key}` must be YAML. Got {text!r}: {' '.join(str(error).split())}.") from error


def recipe_arguments(name: str, rest: list[str]) -> list[str]:
    """Arguments for the parser: the recipe as text, with options such as `--video_model.init_args.fps 8` applied to it.

    The parser knows the fields of the recipe but not the constructors behind its components nor Lightning's Trainer, which
    are imported later.

    Args:
        name: The recipe, a path or a shipped name.
        rest: The other arguments of the command.

    Raises:
        UserError: If the recipe is no YAML mapping or holds a secret, or an option names a place that is not in it.
    """
    loaded = _read(recipe_path(name))
    kept: list[str] = []
    words: Iterator[str] = iter(rest)
    for word in words:
        key, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and (".init_args." in key or key.startswith("trainer.")):
            place(loaded, key, _value(value if equals else next(words, ""), key), word)
        else:
            kept.append(word)
    # Before anything can print or refuse it in words that repeat it.
    refuse_secrets(loaded)
    return ["--config", yaml.safe_dump(loaded, sort_keys=False), *kept]


def recipe_parser() -> ArgumentParser:
    """A parser of the recipe's fields that raises its errors."""
    allow_packages([])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe, nested_key=None)
    return parser


def _with_filters(loaded: dict[str, Any]) -> dict[str, Any]:
    """A recipe that a run of an earlier version kept, where `stage3.pairs` was a mapping, with the filters that it meant."""
    stage3 = loaded.get("stage3")
    rule = stage3.get("pairs") if isinstance(stage3, dict) else None
    if not isinstance(rule, dict):
        return loaded
    meant: list[dict[str, Any]] = [
        {"filter": "winner"},
        {"filter": "margin", "least": rule.get("margin", 0.0)},
        {"filter": "words", "most": rule.get("max_words", 120)},
        *([{"filter": "floors", "least": rule["floors"]}] if rule.get("floors") else []),
    ]
    share = {name: rule[name] for name in ("validation_share",) if name in rule}
    return {**loaded, "stage3": {**stage3, **share, "pairs": meant}}  # type: ignore[dict-item]


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe from a file, such as one that is kept beside a run's rows.

    Raises:
        UserError: If it is not well-formed.
    """
    parser = recipe_parser()
    try:
        return Recipe(**dict(parser.instantiate(parser.parse_object(_with_filters(_read(path)))).items()))
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error


def recipe_text(recipe: Recipe) -> str:
    """A resolved recipe as YAML."""
    return str(yaml.safe_dump(asdict(recipe), sort_keys=False, allow_unicode=True))
