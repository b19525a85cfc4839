"""A step of a study: a command of the product with a recipe of its own, or something that writes a file for one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...cli import main as command
from ...errors import RunError, UserError
from ...recipe.files import place, recipe_path
from ...recipe.identity import digest
from ...running.folder import write_text

Fields = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Fields of a recipe by dotted key; a function where they depend on the steps before."""


@dataclass(frozen=True)
class Step:
    """Something that is done once.

    Attributes:
        name: Its name.
        part: One of `plan.PARTS`.
        run: Does it; what was begun before goes on.
        identity: What it depends on; done with another one, it is done again.
        optional: Whether the study goes on without it where there is nothing that it could use, such as a pair to train on.
    """

    name: str
    part: str
    run: Callable[[], None]
    identity: Callable[[], str]
    optional: bool = False


class Commands:
    """Makes the steps that change one recipe."""

    def __init__(self, folder: Path, recipe: str, options: Sequence[str] = ()) -> None:
        """Reads the recipe.

        Args:
            folder: The study's folder; each step's recipe is kept in its folder `recipes`.
            recipe: The recipe.
            options: Further arguments of all commands.

        Raises:
            UserError: If there is no such recipe.
        """
        self.folder, self.options = folder, list(options)
        self.recipe: dict[str, Any] = yaml.safe_load(recipe_path(recipe).read_text(encoding="utf-8"))

    def text(self, fields: Fields) -> str:
        """The recipe with some fields set otherwise."""
        changed = copy.deepcopy(self.recipe)
        for key, value in (fields() if callable(fields) else fields).items():
            place(changed, key, value, key)
        return yaml.safe_dump(changed, sort_keys=False)

    def keep(self, name: str, fields: Fields) -> Path:
        """Writes a step's recipe."""
        path = self.folder / "recipes" / f"{name}.yaml"
        write_text(path, self.text(fields))
        return path

    def command(self, name: str, part: str, fields: Fields, out: Path, *more: str, optional: bool = False,
                before: Callable[[], None] | None = None) -> Step:  # fmt: skip
        """A step that is a command; its name begins with the command's.

        Args:
            name: The step's name.
            part: Its part.
            fields: What its recipe sets otherwise.
            out: Its run folder.
            more: Further arguments.
            optional: As in `Step`.
            before: What is done before it.
        """
        verb = name.partition("-")[0]

        def run() -> None:
            kept = self.keep(name, fields)
            if before:
                before()
            code = command([verb, str(kept), "--out", str(out), *more, *self.options])
            if code:
                kind = UserError if code == UserError.exit_code else RunError
                raise kind(f"The step `{name}` ended early, for the reason above. Run the study again to go on.")

        return Step(name, part, run, lambda: digest([verb, self.text(fields), str(out), *more]), optional)

    def written(
        self, name: str, part: str, write: Callable[[], None], *depends: object, optional: bool = False
    ) -> Step:
        """A step that writes files.

        Args:
            name: The step's name.
            part: Its part.
            write: Writes them.
            depends: What they depend on.
            optional: As in `Step`.
        """
        return Step(name, part, write, lambda: digest([name, *map(str, depends)]), optional)
