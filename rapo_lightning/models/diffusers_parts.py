"""Classes of diffusers by name, and a scheduler in place of a checkpoint's own."""

from __future__ import annotations

import inspect
from typing import Any

from ..errors import UserError


def diffusers_class(name: str, base: str, field: str) -> Any:
    """A class of diffusers by name; what is no subclass of `base` is refused, whatever else diffusers has of that name."""
    # Imported here: it takes seconds, and a recipe's video model is named by commands that make no video.
    import diffusers

    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, getattr(diffusers, base))):
        raise UserError(f"`{field}` must be a {base} of diffusers {diffusers.__version__}. Got {name!r}.")
    return found


def checked_scheduler(scheduler: dict[str, Any]) -> dict[str, Any]:
    """The settings of a scheduler, once they are known to be right."""
    if "class_name" in scheduler:
        found = diffusers_class(str(scheduler["class_name"]), "SchedulerMixin", "scheduler.class_name")
        _check_overrides(found, scheduler)
    return scheduler


def _check_overrides(found: type, scheduler: dict[str, Any]) -> None:
    known = list(inspect.signature(found).parameters)
    unknown = sorted(set(scheduler) - {"class_name", *known})
    if unknown:
        raise UserError(f"`scheduler` takes what {found.__name__} takes: {', '.join(known)}. Got {', '.join(unknown)}.")


def rescheduled(present: Any, scheduler: dict[str, Any]) -> Any:
    """A scheduler with the configuration of `present` but for what `scheduler` replaces."""
    named = scheduler.get("class_name")
    found = diffusers_class(str(named), "SchedulerMixin", "scheduler.class_name") if named else type(present)
    _check_overrides(found, scheduler)
    overrides = {key: value for key, value in scheduler.items() if key != "class_name"}
    return found.from_config(present.config, **overrides)
