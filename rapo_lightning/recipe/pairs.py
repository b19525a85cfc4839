"""The filters and rewards of a recipe's `stage3`, built from their names and parameters."""

from __future__ import annotations

from typing import Any

from ..errors import UserError
from .components import build
from .objectives import REWARDS
from .stages import Component
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


def build_rewards(stage3: Stage3) -> list[tuple[Any, float]]:
    """The rewards of `stage3.grpo` with their weights; each follows `stage3.rewards.Reward`.

    Raises:
        UserError: If one cannot be built, or needs a reader that the recipe does not name.
    """
    built = []
    for place, item in enumerate(stage3.grpo.rewards):
        arguments = {key: value for key, value in item.items() if key not in ("reward", "weight")}
        name = item["reward"]
        component: Component = {"class_path": REWARDS.get(name, name), "init_args": arguments}
        built.append((build(component, f"stage3.grpo.rewards[{place}]"), float(item.get("weight", 1.0))))
        if arguments.get("by") == "reader" and not stage3.reader.get("class_path"):
            raise UserError(
                f"The reward `{name}` by `reader` needs something that reads texts. Got a recipe without `stage3.reader`; name a "
                "class there, or take `by: embedder`."
            )
    return built
