"""What a setting of the study changes in the recipe of a training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...data.resources import find
from ...errors import UserError
from ...models.refiner_folder import read_refiner
from .scale import Scale
from .settings import GOING_ON, Setting


def training_fields(recipe: Mapping[str, Any], scale: Scale, setting: Setting, asked: str) -> dict[str, Any]:
    """What a training learns from and how long, by dotted key; not what it begins with.

    Args:
        recipe: The recipe that is changed.
        scale: How large the study is.
        setting: The setting.
        asked: CSV of the prompts, with what they ask for.
    """
    # GRPO would make videos of what the judge saw, and references are pairs already.
    hindsight = 0.0 if setting.objective == "grpo" or setting.targets == "reference" else setting.hindsight
    # Pairs in hindsight are about as many again, in each cycle.
    count = 2 * sum(setting.prompts) if hindsight else setting.prompts[-1]
    fields: dict[str, Any] = {
        "stage3.objective": setting.objective,
        **setting.fields,
        "stage3.epochs": scale.epochs_of(count),
    }
    if scale.filters:
        fields["stage3.pairs"] = [dict(item) for item in scale.filters]
    if setting.floor and (setting.factor == "floor" or not scale.filters):
        fields["stage3.pairs"] = _floored(recipe, setting.floor)
    if "reader" in recipe["stage3"]:
        # Else the funnel's accuracy is that of the lexicon's words alone.
        fields["stage3.reader.init_args.asked"] = asked
    fields["stage3.hindsight"] = hindsight
    if hindsight:
        fields |= {"stage3.hindsight_most": scale.most, "stage3.hindsight_others": setting.others}
    fields["stage3.closed_vocabulary"] = scale.closed_of(setting.prompts[-1]) if setting.closed else 0
    return fields


def _floored(recipe: Mapping[str, Any], floor: float) -> list[dict[str, Any]]:
    """The recipe's filters with another floor for each verifier that has one."""
    pairs = recipe["stage3"]["pairs"]
    return [{**item, "least": dict.fromkeys(item["least"], floor)} if item["filter"] == "floors" else item
            for item in pairs]  # fmt: skip


def rewriter_of(recipe: Mapping[str, Any]) -> str:
    """The recipe's rewriter of stage 1.

    Raises:
        UserError: If it names none.
    """
    found = str(recipe.get("stage1", {}).get("rewriter") or "")
    if not found:
        raise UserError(
            "The study needs a recipe with `stage1.rewriter` where captions are known. Got none; name one, or say "
            "`--regimes unknown`."
        )
    return found


def going_on(start: str) -> dict[str, Any]:
    """What a training begins with that goes on with an adapter: its form, its instruction, a lower rate; by dotted key.

    Args:
        start: Folder of the adapter's refiner.
    """
    form = json.loads(((find(start) or Path(start)) / "adapter_config.json").read_text(encoding="utf-8"))
    return {
        "stage3.lora.start": start, "stage3.lora.r": form["r"], "stage3.lora.alpha": form["lora_alpha"],
        "stage3.system": read_refiner(start).system, **GOING_ON,
    }  # fmt: skip
