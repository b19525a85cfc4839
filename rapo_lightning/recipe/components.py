"""Turns a recipe's `class_path` and `init_args` into objects.

A recipe may come from a stranger, so naming a class must not run code: of this package only the classes in `CHOICES` can be
named, each where it fits; other packages must be allowed on the command line, and their classes must follow the field's
protocol. Running a program that the recipe names must be allowed there too.
"""

from __future__ import annotations

import importlib
import inspect
import shlex
from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentParser, set_parsing_settings

from ..errors import UserError
from .objectives import REWARDS
from .stages import Component
from .training import FILTERS

ALLOWED_PACKAGES: list[str] = []
"""Packages that the command line allows beside our own, `--allow_package NAME`."""
_COMMANDS = {"allowed": False}
_OWN = "rapo_lightning"
RUNS_COMMANDS = ("rapo_lightning.models.CommandVideoModel",)
"""Classes that run a program which the recipe names; they need `--allow_command`."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "rapo_lightning.models.base.VideoModel": (
        "rapo_lightning.models.DiffusersVideoModel",
        "rapo_lightning.models.CommandVideoModel",
        "rapo_lightning.models.VideoServer",
    ),
    "rapo_lightning.models.base.LanguageModel": (
        "rapo_lightning.models.TransformersLanguageModel",
        "rapo_lightning.models.ServerLanguageModel",
    ),
    "rapo_lightning.models.base.VisionLanguageModel": (
        "rapo_lightning.models.TransformersVisionLanguageModel",
        "rapo_lightning.models.ServerVisionLanguageModel",
    ),
    "rapo_lightning.models.base.Embedder": ("rapo_lightning.models.SentenceEmbedder",),
    "rapo_lightning.verifiers.base.Verifier": (
        "rapo_lightning.verifiers.TemporalCoherence",
        "rapo_lightning.verifiers.MotionSmoothness",
        "rapo_lightning.verifiers.Physics",
        "rapo_lightning.verifiers.VlmAlignment",
        "rapo_lightning.verifiers.VlmAspects",
        "rapo_lightning.verifiers.TextFidelity",
        "rapo_lightning.verifiers.WordCount",
        "rapo_lightning.lab.verifier.LabOracle",
    ),
    "rapo_lightning.stage1.extract.Extractor": (
        "rapo_lightning.stage1.extract.LanguageModelExtractor",
        "rapo_lightning.lab.extract.LabExtractor",
    ),
    "rapo_lightning.stage1.pairs.Degrader": (
        "rapo_lightning.stage1.pairs.LanguageModelDegrader",
        "rapo_lightning.lab.degrade.LabDegrader",
    ),
    "rapo_lightning.stage3.pairs.Filter": tuple(FILTERS.values()),
    "rapo_lightning.stage3.rewards.Reward": tuple(REWARDS.values()),
    "rapo_lightning.stage3.pairs.Reader": (
        "rapo_lightning.lab.reading.CaptionReader",
        "rapo_lightning.lab.tags.TagReader",
    ),
    "rapo_lightning.evaluation.baselines.Baseline": (
        "rapo_lightning.evaluation.baselines.StyleFrame",
        "rapo_lightning.evaluation.baselines.Restated",
        "rapo_lightning.lab.baselines.Dictionary",
        "rapo_lightning.lab.tags.OtherStyle",
    ),
}
"""For each protocol the classes of this package that follow it."""
PROTOCOLS: Mapping[str, str] = {
    "video_model": "rapo_lightning.models.base.VideoModel",
    "language_model": "rapo_lightning.models.base.LanguageModel",
    "vision_language_model": "rapo_lightning.models.base.VisionLanguageModel",
    "embedder": "rapo_lightning.models.base.Embedder",
    "stage2.verifiers": "rapo_lightning.verifiers.base.Verifier",
    "evaluation.metric": "rapo_lightning.verifiers.base.Verifier",
    "evaluation.baselines": "rapo_lightning.evaluation.baselines.Baseline",
    "stage1.extractor": "rapo_lightning.stage1.extract.Extractor",
    "stage1.degrader": "rapo_lightning.stage1.pairs.Degrader",
    "stage3.pairs": "rapo_lightning.stage3.pairs.Filter",
    "stage3.grpo.rewards": "rapo_lightning.stage3.rewards.Reward",
    "stage3.reader": "rapo_lightning.stage3.pairs.Reader",
}
"""The protocol of each field that names a class."""


def allow_packages(names: list[str]) -> None:
    """Allows packages for this process, and lets jsonargparse import from nothing else."""
    ALLOWED_PACKAGES.extend(name for name in names if name not in ALLOWED_PACKAGES)
    set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=[_OWN, "lightning", *ALLOWED_PACKAGES],
        # Where anything may stand, a mapping with a `class_path` is a mapping: it would be imported while parsing.
        validate_subclass_spec_in_any=False,
        instantiate_subclass_spec_in_any=False,
    )


def allow_commands(allowed: bool) -> None:
    """Says whether recipes may name programs that are run, from now on in this process; `--allow_command`."""
    _COMMANDS["allowed"] = allowed


def commands_allowed() -> bool:
    """Whether recipes may name programs that are run."""
    return _COMMANDS["allowed"]


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def load_class(component: Component, field: str) -> type:
    """Imports the class a component names, if it may be named there.

    Args:
        component: The component.
        field: Its place in the recipe, such as `stage2.verifiers[0]`.

    Raises:
        UserError: If no class is named, it is no choice for this field, its package is not allowed, or it is not there.
    """
    protocol = PROTOCOLS[field.split("[")[0]]
    path, choices = component.get("class_path", ""), CHOICES[protocol]
    package = path.split(".")[0]
    if path not in choices and package not in ALLOWED_PACKAGES:
        further = "" if package in ("", _OWN) else f", or add `--allow_package {package}` if you trust that package"
        raise UserError(f"`{field}.class_path` must be one of {', '.join(choices)}. Got {path!r}; name one{further}.")
    if path in RUNS_COMMANDS and not commands_allowed():
        # In full: whoever allows it should have read it.
        words = component.get("init_args", {}).get("command", [])
        program = shlex.join(map(str, words)) if isinstance(words, list) else str(words)
        raise UserError(
            f"`{field}` runs a program of the recipe's choice, which needs your permission. Got {program!r}; read it, and add "
            "`--allow_command` if you trust it."
        )
    try:
        found = _import(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"`{field}.class_path` cannot be imported. Got {path!r}: {error}.") from error
    if not isinstance(found, type):
        raise UserError(f"`{field}.class_path` must name a class. Got {path!r}, a {type(found).__name__}.")
    if found.__module__.split(".")[0] not in (_OWN, *ALLOWED_PACKAGES):
        raise UserError(
            f"`{field}.class_path` must name a class of an allowed package. Got {path!r}, which is defined in "
            f"{found.__module__}; name it there and allow that package."
        )
    _check_methods(found, protocol, field, path)
    return found


def _check_methods(found: type, protocol: str, field: str, path: str) -> None:
    """Raises UserError if a class lacks a method of its field's protocol."""
    wanted = [name for name, _ in inspect.getmembers(_import(protocol), inspect.isfunction) if name[0] != "_"]
    missing = [name for name in wanted if not callable(getattr(found, name, None))]
    if missing:
        raise UserError(
            f"`{field}.class_path` must name a class with the methods {', '.join(wanted)}. Got {path!r}, which lacks "
            f"{', '.join(missing)}; see docs/extending.md."
        )


def check(component: Component, field: str) -> tuple[type, dict[str, Any]]:
    """Checks a component's arguments against its constructor without calling it.

    Returns:
        The class and its arguments with defaults filled in.

    Raises:
        UserError: If the class may not stand here, or an argument is unknown, missing or of another type.
    """
    found = load_class(component, field)
    given = component.get("init_args", {})
    if "trust_remote_code" in given:
        raise UserError(
            f"`{field}.init_args.trust_remote_code` runs code that comes with weights. Got it in a recipe; leave it out."
        )
    allow_packages([])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(found)
    try:
        parsed = parser.parse_object(given)
    except Exception as error:  # jsonargparse raises its own and argparse's error types
        message = " ".join(str(error).split())
        raise UserError(f"`{field}.init_args` do not fit {component['class_path']}: {message}") from error
    return found, parsed.as_dict()


def build(component: Component, field: str) -> Any:
    """Builds the object a component names; arguments as in `check`.

    Raises:
        UserError: As `check`, or if the object lacks a field of its protocol.
    """
    found, arguments = check(component, field)
    built = found(**arguments)
    missing = [name for name in _fields(PROTOCOLS[field.split("[")[0]]) if not hasattr(built, name)]
    if missing:
        raise UserError(
            f"`{field}` must have the attributes {', '.join(_fields(PROTOCOLS[field.split('[')[0]]))}. Got "
            f"{component['class_path']!r}, which lacks {', '.join(missing)}; see docs/extending.md."
        )
    return built


def _fields(protocol: str) -> list[str]:
    """Attributes that a protocol asks for."""
    return list(
        dict.fromkeys(name for kind in _import(protocol).__mro__ for name in vars(kind).get("__annotations__", {}))
    )
