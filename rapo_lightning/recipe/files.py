"""Finds and reads recipe files."""

from __future__ import annotations

from pathlib import Path

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from ..data.resources import shipped_recipes
from ..errors import UserError
from . import Recipe


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


def with_overrides(path: Path, rest: list[str]) -> list[str]:
    """Arguments for the parser: the recipe as text, with options such as `--video_model.init_args.fps 8` applied to it.

    The parser knows the fields of the recipe but not the constructors behind its components, which are imported later.

    Args:
        path: The recipe.
        rest: The other arguments of the command.

    Raises:
        UserError: If the recipe is no YAML mapping, or an option names a place that is not in it.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"A recipe must be YAML in UTF-8. Got {path}: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"A recipe must be a mapping of sections. Got {path}, which holds a {type(loaded).__name__}.")
    kept: list[str] = []
    words = iter(rest)
    for word in words:
        key, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and (".init_args." in key or key.startswith("trainer.")):
            place = loaded
            *parents, last = key.split(".")
            for name in parents:
                place = place.setdefault(name, {}) if isinstance(place, dict) else None
            if not isinstance(place, dict):
                raise UserError(
                    f"An option can set fields, not items of a list. Got `{word}`; edit the recipe instead."
                )
            place[last] = yaml.safe_load(value if equals else next(words, ""))
        else:
            kept.append(word)
    return ["--config", yaml.safe_dump(loaded, sort_keys=False), *kept]


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe from a file, as the commands do.

    Raises:
        UserError: If it is not well-formed.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe, nested_key=None)
    try:
        return Recipe(**dict(parser.instantiate_classes(parser.parse_path(path)).items()))
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error
