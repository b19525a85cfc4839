"""A training that begins with an adapter that is there already, such as stage 1's rewriter."""

from __future__ import annotations

import json
from typing import Any

from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

from ..checkpoints import weights_identity
from ..errors import UserError
from ..models.refiner_folder import ADAPTER_CONFIG, RefinerFolder, read_refiner
from ..recipe import Lora
from ..recipe.training import ALL_LINEAR


def read_start(lora: Lora, base: str) -> RefinerFolder | None:
    """The refiner whose adapter a training begins with, looked at without loading a model; None for a fresh adapter.

    Args:
        lora: Settings of the adapter.
        base: Name of the base model's checkpoint, which must be here.

    Raises:
        UserError: If `lora.start` is no refiner, has another base, or its adapter is of another form than `lora` says.
    """
    if not lora.start:
        return None
    found = read_refiner(lora.start, base)
    here = weights_identity(base)
    if found.base_identity and found.base_identity != here:
        raise UserError(
            f"`stage3.lora.start` must have the same base. Got {found.path}, trained on other weights than {base!r} has here; "
            "fetch those, or leave it out."
        )
    if found.adapter:
        raise UserError(
            f"`stage3.lora.start` must hold its adapter itself. Got {found.path}, whose adapter is {found.adapter}; copy it there."
        )
    kept = json.loads((found.path / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    variant = "dora" if kept.get("use_dora") else "rslora" if kept.get("use_rslora") else "lora"
    wanted: dict[str, object] = {"r": lora.r, "alpha": lora.alpha, "variant": lora.variant}
    has: dict[str, object] = {"r": kept["r"], "alpha": kept["lora_alpha"], "variant": variant}
    if lora.target_modules != [ALL_LINEAR]:
        wanted["target_modules"] = sorted(lora.target_modules)
        # PEFT takes a pattern too.
        named = kept["target_modules"]
        has["target_modules"] = sorted(named) if isinstance(named, list) else named
    differing = [name for name in wanted if wanted[name] != has[name]]
    if differing:
        told = ", ".join(f"{name} {has[name]} instead of {wanted[name]}" for name in differing)
        raise UserError(
            f"`stage3.lora.start` must be of the form that `stage3.lora` says. Got {found.path} with {told}; set them alike."
        )
    return found


def begin_with(model: Any, start: RefinerFolder) -> None:
    """Puts the weights of a refiner's adapter into the adapter `default` of a PEFT model.

    Args:
        model: A PEFT model.
        start: From `read_start`.

    Raises:
        UserError: If the adapter has not exactly the layers of the model's.
    """
    weights = load_peft_weights(str(start.path), device="cpu")
    here = get_peft_model_state_dict(model, save_embedding_layers=False)
    differing = sorted(weights.keys() ^ here.keys())
    differing += [name for name in here.keys() & weights.keys() if here[name].shape != weights[name].shape]
    if differing:
        raise UserError(
            f"`stage3.lora.start` must be an adapter of the same layers. Got {start.path}, whose {differing[0]} does not fit; choose "
            "another refiner, or leave it out."
        )
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise UserError(
            f"`stage3.lora.start` must have finite weights. Got {start.path} with {broken[0]}; copy it anew, or leave it out."
        )
    set_peft_model_state_dict(model, weights)
