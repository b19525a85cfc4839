"""The filters of a recipe's `stage3.pairs`, built from their names and parameters."""

from __future__ import annotations

from typing import Any

from ..errors import UserError
from .components import build
from .training import FILTERS, Stage3


def build_filters(stage3: Stage3) -> list[Any]:
    """The filters in order; each follows `stage3.pairs.Filter`.

    Raises:
        UserError: If one cannot be built, or `averaged` is not the first.
    """
    built = []
    for place, item in enumerate(stage3.pairs):
        arguments = {key: value for key, value in item.items() if key != "filter"}
        name = item["filter"]
        if name == "averaged" and place:
            raise UserError(
                "`averaged` must be the first of `stage3.pairs`, since the others look at its scores. Got it as number "
                f"{place + 1}; move it."
            )
        built.append(build({"class_path": FILTERS.get(name, name), "init_args": arguments}, f"stage3.pairs[{place}]"))
    return built


def build_reader(stage3: Stage3) -> Any | None:
    """What follows `stage3.pairs.Reader`, or None where the recipe names none.

    Raises:
        UserError: If it cannot be built.
    """
    return build(stage3.reader, "stage3.reader") if stage3.reader.get("class_path") else None
