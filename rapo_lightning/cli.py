"""The command line: `python -m rapo_lightning COMMAND`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from . import __version__
from .data.resources import shipped_recipes
from .errors import UserError
from .recipe import Recipe
from .recipe.files import recipe_path, with_overrides

set_parsing_settings(docstring_parse_attribute_docstrings=True)


@dataclass(frozen=True)
class Command:
    """A command that takes a recipe.

    Attributes:
        help: One line.
        run: Gets the recipe, its resolved YAML and the other options.
        default: Recipe used if none is named; empty where one must be.
        options: Further options: name to help text.
        positional: Name and help of a second positional argument.
    """

    help: str
    run: Callable[[Recipe, str, Namespace], object]
    default: str = ""
    options: tuple[tuple[str, str], ...] = ()
    positional: tuple[str, str] | None = None


def _collect(recipe: Recipe, text: str, options: Namespace) -> object:
    from .commands.collect import collect

    return collect(recipe, text, options.out)


def _align(recipe: Recipe, text: str, options: Namespace) -> object:
    from .commands.align import align

    return align(recipe, text, options.out)


def _pairs(recipe: Recipe, text: str, options: Namespace) -> object:
    from .commands.pairs import make_pairs

    return make_pairs(recipe, text, options.out)


def _discriminator(recipe: Recipe, text: str, options: Namespace) -> object:
    from .commands.discriminator import discriminator

    return discriminator(recipe, text, options.out)


def _finetune(recipe: Recipe, text: str, options: Namespace) -> object:
    from .commands.finetune import finetune

    return finetune(recipe, text, options.out, options.pairs)


def _evaluate(recipe: Recipe, text: str, options: Namespace) -> object:
    from .commands.evaluate import evaluate

    return evaluate(recipe, text, options.out)


def _refine(recipe: Recipe, text: str, options: Namespace) -> object:
    from .commands.refine import refine

    refine(recipe, options.out, options.prompt, options.input, options.output)
    return None


def _validate(recipe: Recipe, text: str, options: Namespace) -> object:
    from .commands.validate import validate

    validate(recipe)
    return None


def _quickstart(recipe: Recipe, text: str, options: Namespace) -> object:
    from .commands.quickstart import quickstart

    return quickstart(recipe, text, options.out)


COMMANDS: dict[str, Command] = {
    "quickstart": Command(
        "collect, finetune, evaluate and report on the lab, from nothing, on a laptop", _quickstart, "lab-quickstart"
    ),
    "align": Command("stage 1: align a prompt file with the model's training captions", _align, "lab"),
    "collect": Command("run the closed loop over a prompt file and log trajectories", _collect, "lab"),
    "finetune": Command(
        "train a LoRA refiner on a run's trajectories",
        _finetune,
        options=(("pairs", "train on a CSV with the columns prompt, completion instead"),),
    ),
    "pairs": Command("make training pairs for stage 1's rewriter from captions", _pairs),
    "discriminator": Command("train stage 1's discriminator on which branch gives the better video", _discriminator),
    "refine": Command(
        "let the trained refiner rewrite one prompt or a file",
        _refine,
        options=(
            ("input", "file of prompts to refine"),
            ("output", "CSV to write; default: <input>.refined.csv in the working directory"),
        ),
        positional=("prompt", "the prompt to refine"),
    ),
    "evaluate": Command("compare the arms on held-out prompts, with intervals", _evaluate),
    "validate": Command("check a recipe without loading weights, all faults at once", _validate),
}
PLAIN = {
    "graph": "build, add to, show, import, export or extract a relation graph",
    "report": "write the static gallery of a run",
    "ckpt": "list, fetch or verify checkpoints",
}


def _usage() -> str:
    lines = ["usage: rapo-lightning COMMAND [RECIPE] [options]", "", "commands:"]
    lines += [f"  {name:13} {command.help}" for name, command in COMMANDS.items()]
    lines += [f"  {name:13} {text}" for name, text in PLAIN.items()]
    lines += [
        "",
        f"shipped recipes: {', '.join(shipped_recipes())}",
        "`rapo-lightning COMMAND --help` shows all options.",
    ]
    return "\n".join(lines)


def _parser(name: str, command: Command) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"rapo-lightning {name}",
        description=f"{command.help}. The recipe, a path or a shipped name, comes right after the command.",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="the recipe, as an option")
    parser.add_argument("--out", type=str, default="", help="run folder; default: runs/<recipe name>")
    parser.add_argument(
        "--allow_package", type=str, action="append", default=[], help="further package that the recipe may import"
    )
    for option, text in command.options:
        parser.add_argument(f"--{option}", type=str, default="", help=text)
    if command.positional:
        parser.add_argument(command.positional[0], type=str, nargs="?", default="", help=command.positional[1])
    parser.add_class_arguments(Recipe, nested_key=None)
    return parser


def _arguments(name: str, command: Command, rest: list[str]) -> list[str]:
    """Turns the recipe positional into `--config`; evaluation reads its prompts from its own section."""
    if name == "evaluate":
        rest = [item.replace("--prompts", "--evaluation.prompts", 1) if item.split("=")[0] == "--prompts" else item
                for item in rest]  # fmt: skip
    if rest and not rest[0].startswith("-"):
        return with_overrides(recipe_path(rest[0]), rest[1:])
    if any(item in ("-h", "--help") for item in rest) or any(item.split("=")[0] == "--config" for item in rest):
        return rest
    if not command.default:
        raise UserError(
            f"`{name}` needs a recipe: a YAML file or one of {', '.join(shipped_recipes())}. Got none; for example "
            f"`rapo-lightning {name} lab`."
        )
    return with_overrides(recipe_path(command.default), rest)


def _run_recipe_command(name: str, rest: list[str]) -> None:
    from . import console
    from .recipe import components

    command = COMMANDS[name]
    parser = _parser(name, command)
    try:
        config = parser.parse_args(_arguments(name, command, rest))
        extra = ["config", "out", "allow_package", *[option for option, _ in command.options]]
        extra += [command.positional[0]] if command.positional else []
        plain = Namespace(**{key: config[key] for key in extra if key != "config"})
        fields = {key: value for key, value in parser.instantiate_classes(config).items() if key not in extra}
        dumped = parser.dump(Namespace({key: value for key, value in config.items() if key.split(".")[0] not in extra}))
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error
    components.ALLOWED_PACKAGES.extend(plain.allow_package)
    console.quiet()
    try:
        command.run(Recipe(**fields), dumped, plain)
    except SystemExit as end:
        # Lightning answers Ctrl-C by ending the process; `main` says how to go on.
        raise KeyboardInterrupt from end


def _run_report(rest: list[str]) -> None:
    parser = ArgumentParser(prog="rapo-lightning report", description=PLAIN["report"], exit_on_error=False)
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("--limit", type=int, default=200, help="most prompts to show")
    options = _parse(parser, rest)
    from .report import write_report

    print(write_report(Path(options.run), options.limit))


def _run_graph(rest: list[str]) -> None:
    from .commands import graph

    graph.run(rest)


def _run_ckpt(rest: list[str]) -> None:
    parser = ArgumentParser(prog="rapo-lightning ckpt", description=PLAIN["ckpt"], exit_on_error=False)
    parser.add_argument("action", choices=["list", "fetch", "verify"], help="what to do")
    parser.add_argument("names", type=str, nargs="*", help="checkpoints; default: all known ones")
    options = _parse(parser, rest)
    from .commands import ckpt

    if options.action == "list":
        ckpt.list_checkpoints()
    else:
        (ckpt.fetch_checkpoints if options.action == "fetch" else ckpt.verify_checkpoints)(options.names or [])


def _parse(parser: ArgumentParser, rest: list[str]) -> Namespace:
    try:
        return parser.parse_args(rest)
    except ArgumentError as error:
        raise UserError(" ".join(str(error).split())) from error


def _prepare_environment() -> None:
    # TRL reports each use to the hub unless it is told not to, before it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def main(argv: list[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Arguments without the program's name; None takes the process's.

    Returns:
        0 if it is done, 2 for bad input, 1 if it failed on the way.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _prepare_environment()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(__version__)
        return 0
    name, rest = arguments[0], arguments[1:]
    plain: dict[str, Callable[[list[str]], Any]] = {"report": _run_report, "ckpt": _run_ckpt, "graph": _run_graph}
    try:
        if name in COMMANDS:
            _run_recipe_command(name, rest)
        elif name in plain:
            plain[name](rest)
        else:
            raise UserError(f"The commands are {', '.join([*COMMANDS, *PLAIN])}. Got {name!r}.")
    except UserError as error:
        print(f"rapo-lightning: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("rapo-lightning: interrupted; run the same command again to go on.", file=sys.stderr)
        return 1
    return 0
