"""The command line: `python -m rapo_lightning COMMAND`."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from . import __version__, console
from .commands import COMMANDS, DEFAULT_RECIPES, GROUPS
from .data.resources import shipped_recipes
from .errors import RunError, UserError
from .recipe import Recipe
from .recipe.components import allow_commands, allow_packages
from .recipe.files import recipe_arguments
from .running.interruption import INTERRUPTION

set_parsing_settings(docstring_parse_attribute_docstrings=True)
Command = Callable[..., object]
_NO_PERMISSIONS = argparse.Namespace(allow_package=[], allow_command=False)
_FOR_EVALUATION = {"--prompts": "--evaluation.prompts", "--limit": "--evaluation.limit"}
"""`evaluate` reads its prompts from its own section; the short options mean those."""


def _first_line(command: Command) -> str:
    return (inspect.getdoc(command) or "").splitlines()[0].rstrip(".")


def _usage() -> str:
    lines = ["usage: rapo-lightning COMMAND [RECIPE] [options]", "", "commands:"]
    lines += [f"  {name:13} {_first_line(command)}" for name, command in COMMANDS.items()]
    lines += [f"  {group:13} {', '.join(commands)}" for group, commands in GROUPS.items()]
    lines += ["", f"shipped recipes: {', '.join(shipped_recipes())}"]
    return "\n".join([*lines, "`rapo-lightning COMMAND --help` shows all options."])


def _takes_recipe(command: Command) -> bool:
    return "recipe" in inspect.signature(command).parameters


def _parser(name: str, command: Command) -> ArgumentParser:
    """The parser of a command: its signature, and the recipe's fields where it takes one."""
    hint = " The recipe, a path or a shipped name, comes right after the command." if _takes_recipe(command) else ""
    parser = ArgumentParser(
        prog=f"rapo-lightning {name}", description=f"{_first_line(command)}.{hint}", exit_on_error=False
    )
    told = {item.arg_name: item.description for item in parse_docstring(command.__doc__ or "").params}
    hints = get_type_hints(command)
    for parameter in _own_parameters(command):
        required = parameter.default is parameter.empty
        many = "list" in str(hints[parameter.name])
        options: dict[str, Any] = {"type": str if many else hints[parameter.name], "help": told.get(parameter.name)}
        if parameter.kind is parameter.POSITIONAL_ONLY:
            options |= {"nargs": "+" if required else "*"} if many else {} if required else {"nargs": "?"}
            options |= {} if required else {"default": [] if many else parameter.default}
            parser.add_argument(parameter.name, **options)
        else:
            options |= {"required": True} if required else {"default": parameter.default}
            parser.add_argument(f"--{parameter.name}", **options)
    if _takes_recipe(command):
        parser.add_argument("--config", action="config", help="the recipe, as an option")
        parser.add_argument(
            "--allow_package", type=str, action="append", default=[], help="further package that the recipe may name"
        )
        parser.add_argument("--allow_command", action="store_true", help="run the programs that the recipe names")
        parser.add_class_arguments(Recipe, nested_key=None)
    return parser


def _own_parameters(command: Command) -> list[inspect.Parameter]:
    return [item for item in inspect.signature(command).parameters.values() if item.name != "recipe"]


def _runs_as_list(rest: list[str]) -> list[str]:
    """Turns `--runs A B` into the recipe's list `stage3.runs`."""
    rest = [part for item in rest for part in (item.split("=", 1) if item.startswith("--runs=") else [item])]
    if "--runs" not in rest:
        return rest
    begin = rest.index("--runs")
    end = next((place for place in range(begin + 1, len(rest)) if rest[place].startswith("-")), len(rest))
    if end == begin + 1:
        raise UserError("`--runs` needs run folders. Got none; name them after it, as in `--runs runs/a runs/b`.")
    return [*rest[:begin], "--stage3.runs", json.dumps(rest[begin + 1 : end]), *rest[end:]]


def _with_recipe(name: str, rest: list[str]) -> list[str]:
    """Turns the recipe, the first argument, into `--config`."""
    if name == "evaluate":
        for short, long in _FOR_EVALUATION.items():
            rest = [item.replace(short, long, 1) if item.split("=")[0] == short else item for item in rest]
    if name == "finetune":
        rest = _runs_as_list(rest)
    if rest and not rest[0].startswith("-"):
        return recipe_arguments(rest[0], rest[1:])
    if any(item in ("-h", "--help") for item in rest) or any(item.split("=")[0] == "--config" for item in rest):
        return rest
    if name not in DEFAULT_RECIPES:
        raise UserError(
            f"`{name}` needs a recipe: a YAML file or one of {', '.join(shipped_recipes())}. Got none; for example "
            f"`rapo-lightning {name} lab`."
        )
    return recipe_arguments(DEFAULT_RECIPES[name], rest)


def _permissions(rest: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What the command line allows a recipe, and the other arguments.

    Read here, not with the recipe's fields: what reads those takes them from recipes too.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--allow_package", action="append", default=[])
    parser.add_argument("--allow_command", action="store_true")
    try:
        return parser.parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}.") from error


def _run(name: str, command: Command, rest: list[str]) -> None:
    # Before anything of a recipe is parsed.
    allow_packages([])
    parser = _parser(name, command)
    permissions, rest = _permissions(rest) if _takes_recipe(command) else (_NO_PERMISSIONS, rest)
    try:
        config = parser.parse_args(_with_recipe(name, rest) if _takes_recipe(command) else rest)
        own = {item.name: (config.pop(item.name), item.kind) for item in _own_parameters(command)}
        if config.pop("allow_package", []) or config.pop("allow_command", False):
            raise UserError(
                "`allow_package` and `allow_command` are yours to give. Got one in a recipe; take it out, and give it as an option."
            )
        allow_packages(permissions.allow_package)
        allow_commands(permissions.allow_command)
        config.pop("config", None)
        recipe = [Recipe(**dict(parser.instantiate(Namespace(config)).items()))] if _takes_recipe(command) else []
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error
    places = [value for value, kind in own.values() if kind is inspect.Parameter.POSITIONAL_ONLY]
    options = {key: value for key, (value, kind) in own.items() if kind is inspect.Parameter.KEYWORD_ONLY}
    try:
        with _graph_faults():
            command(*recipe, *places, **options)
    finally:
        # A permission is one command's.
        allow_commands(False)


@contextmanager
def _graph_faults() -> Iterator[None]:
    """The graph's library knows nothing of commands and has an error of its own."""
    from relation_graph import GraphError

    try:
        yield
    except GraphError as error:
        raise UserError(str(error)) from error


def _find(arguments: Sequence[str]) -> tuple[str, Command, list[str]]:
    """Name, function and further arguments of the command that was typed."""
    name, rest = arguments[0], list(arguments[1:])
    if name in COMMANDS:
        return name, COMMANDS[name], rest
    if name not in GROUPS:
        raise UserError(f"The commands are {', '.join([*COMMANDS, *GROUPS])}. Got {name!r}.")
    group = GROUPS[name]
    if not rest or rest[0] not in group:
        if rest and rest[0] in ("-h", "--help"):
            print(f"usage: rapo-lightning {name} ACTION ...\n")
            print("\n".join(f"  {action:8} {_first_line(command)}" for action, command in group.items()))
            raise SystemExit(0)
        raise UserError(f"`{name}` takes one of {', '.join(group)}. Got {rest[0] if rest else 'nothing'!r}.")
    return f"{name} {rest[0]}", group[rest[0]], rest[1:]


def _prepare() -> None:
    # TRL reports each use to the hub unless it is told not to, before it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows few characters shows the others as escapes, instead of ending the run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    console.quiet()
    if threading.current_thread() is threading.main_thread():
        INTERRUPTION.install()


def main(argv: list[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Arguments without the program's name; None takes the process's.

    Returns:
        0 if it is done, 2 for bad input, 1 if it failed on the way.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _prepare()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(__version__)
        return 0
    try:
        _run_or_explain(arguments)
    except UserError as error:
        print(f"rapo-lightning: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("rapo-lightning: interrupted; run the same command again to go on.", file=sys.stderr)
        return 1
    return 0


def _run_or_explain(arguments: list[str]) -> None:
    name, command, rest = _find(arguments)
    shows = {"-h", "--help", "--print_config"} & {item.split("=")[0] for item in rest}
    try:
        _run(name, command, rest)
    except SystemExit as end:
        if shows or not end.code:
            raise
        # Lightning answers Ctrl-C by ending the process; `main` says how to go on.
        raise KeyboardInterrupt from end
    except OSError as error:
        raise RunError(
            f"A file cannot be read or written: {error}. Make room, or check the path and its rights."
        ) from error
