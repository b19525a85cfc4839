"""What a recipe's models need on a device, before anything is loaded: by policy, and which cards hold it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoints import entries, is_here, locate
from ..checkpoints.weights import linear_values, weight_values
from ..errors import UserError
from ..models.activations import decode_bytes, denoise_bytes, judge_bytes, rewriter_bytes
from ..models.pipeline_folder import weighted_parts
from ..models.prompt_cache import read_apart
from ..models.quantization import quantized_bytes
from ..recipe import Recipe
from .memory_measured import measured_bytes
from .pool import ROLES, Role

POLICIES = ("resident", "swap", "offload")
CARDS = (24, 48, 80)
"""Gigabytes of the cards that a plan names."""
USABLE = 0.92
"""Share of a card that models can have (ours): CUDA itself and gaps between tensors take the rest."""
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}
_DIFFUSERS = "rapo_lightning.models.DiffusersVideoModel"
_BLOCKS = ("num_layers", "num_single_layers", "num_hidden_layers")
_AHEAD = 2
"""Blocks that are there under `offload`: the one at work and the next."""


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Attributes:
        name: Its name, as `transformer`.
        bytes: Of its weights in the type that they are loaded in; None where that cannot be told.
        blocks: How many it repeats; 1 for a part that is not offloaded by blocks.
    """

    name: str
    bytes: int | None
    blocks: int = 1


@dataclass
class Needs:
    """What one model needs.

    Attributes:
        role: Field of the recipe.
        parts: Its parts.
        phases: Bytes beside the weights by phase, and whether they were measured here; None where nobody knows.
        apart: Whether its text encoders are needed apart from its other parts.
        remark: Why there is nothing to tell.
        here: Whether the weights are on this machine, or on another for good.
        stays: Whether it cannot leave the device for others, so that all are there together.
    """

    role: str
    parts: list[Part] = field(default_factory=list)
    phases: dict[str, tuple[int | None, bool]] = field(default_factory=dict)
    apart: bool = False
    remark: str = ""
    here: bool = True
    stays: bool = False

    def weights(self) -> int:
        """Bytes of all parts, as far as they are known."""
        return sum(part.bytes or 0 for part in self.parts)

    def most(self) -> int:
        """Bytes of the phase that needs the most beside the weights."""
        return max((value or 0 for value, _ in self.phases.values()), default=0)

    def alone(self, policy: str) -> int:
        """Bytes when the other models are off the device."""
        if policy == "resident":
            return self.weights() + self.most()
        reading = [part for part in self.parts if self.apart and part.name.startswith("text_encoder")]
        making = [part for part in self.parts if part not in reading]
        steps = [name for name in self.phases if name != "encode"]
        beside = max((self.phases[name][0] or 0 for name in steps), default=0)
        return max(
            sum(_held(part, policy) for part in reading) + (self.phases.get("encode", (0, False))[0] or 0),
            sum(_held(part, policy) for part in making) + beside,
        )


def _held(part: Part, policy: str) -> int:
    whole = part.bytes or 0
    return whole if policy != "offload" else whole * min(_AHEAD, part.blocks) // part.blocks


def total(needs: Sequence[Needs], policy: str) -> int:
    """Bytes that a policy needs at once."""
    if policy == "resident":
        return sum(item.weights() for item in needs) + max((item.most() for item in needs), default=0)
    return max((item.alone(policy) for item in needs), default=0)


def fitting(needs: Sequence[Needs], size: float) -> str | None:
    """The first policy that fits into so many bytes; None if none does."""
    allowed = POLICIES[:1] if any(item.stays for item in needs) else POLICIES
    return next((policy for policy in allowed if total(needs, policy) <= size * USABLE), None)


def plan(recipe: Recipe, roles: Sequence[Role] = ROLES) -> list[Needs]:
    """What the models of these fields need; nothing is loaded.

    Args:
        recipe: The recipe.
        roles: The fields.
    """
    found = [_needs(recipe, role) for role in roles if getattr(recipe, role).get("class_path")]
    measured = measured_bytes(recipe)
    for item in found:
        item.phases = {
            phase: (measured[phase], True) if phase in measured else value for phase, value in item.phases.items()
        }
    return found


def _needs(recipe: Recipe, role: Role) -> Needs:
    model = getattr(recipe, role)
    arguments: Mapping[str, Any] = model.get("init_args", {})
    name = arguments.get("checkpoint")
    if not isinstance(name, str) or "rapo_lightning.models" not in model["class_path"]:
        return Needs(role, remark="runs elsewhere, or by a class that says nothing of its weights")
    if model["class_path"].endswith("CommandVideoModel"):
        return Needs(role, remark="runs in a program of its own")
    try:
        folder = Path(locate(name)) if is_here(name) else None
    except UserError:
        folder = None
    if folder is None or not folder.is_dir():
        size = f", {entries()[name].megabytes / 1000:.1f} GB on disk" if name in entries() else ""
        return Needs(role, remark=f"{name} is not here{size}", here=False)
    return _of_pipeline(folder, arguments) if model["class_path"] == _DIFFUSERS else _of_model(recipe, role, folder)


def _config(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _of_pipeline(folder: Path, arguments: Mapping[str, Any]) -> Needs:
    dtype, pipeline = arguments.get("dtype", "bfloat16"), arguments.get("pipeline", "WanPipeline")
    width = _WIDTH[dtype]
    vae_width = _WIDTH[arguments.get("vae_dtype") or ("float32" if pipeline.startswith("Wan") else dtype)]
    try:
        folders = weighted_parts(folder)
    except UserError as error:
        return Needs("video_model", remark=str(error))
    parts, configs = [], {name: _config(part) for name, part in folders.items()}
    for name, part in folders.items():
        values = weight_values(part)
        blocks = sum(configs[name].get(key) or 0 for key in _BLOCKS) or 1
        each = vae_width if name == "vae" else width
        parts.append(Part(name, None if values is None else values * each, 1 if name == "vae" else int(blocks)))
    call, batch = arguments.get("call") or {}, int(arguments.get("batch_size", 1))
    transformer, vae = configs.get("transformer", {}), configs.get("vae", {})
    denoise = denoise_bytes(transformer, vae, call, batch, width)
    phases = {"encode": (None, False), "denoise": (denoise, False), "decode": (decode_bytes(vae, call, batch, vae_width), False)}  # fmt: skip
    return Needs("video_model", parts, phases, apart=read_apart(pipeline, call))


def _of_model(recipe: Recipe, role: Role, folder: Path) -> Needs:
    arguments, config, values = getattr(recipe, role).get("init_args", {}), _config(folder), weight_values(folder)
    width, batch = _WIDTH.get(arguments.get("dtype", "auto"), 2), int(arguments.get("batch_size", 8))
    kind = arguments.get("quantization", "none")
    parts = [Part("weights", None if values is None else quantized_bytes(kind, values, linear_values(folder), width))]
    video = recipe.video_model.get("init_args", {})
    if role == "vision_language_model":
        fps = float(video.get("fps", 16.0))
        beside = judge_bytes(config, batch, arguments.get("sample_fps") or 0.0, fps, video.get("call") or {})
        return Needs(role, parts, {"judge": (beside, False)}, stays=kind == "int8")
    if role == "language_model":
        beside = rewriter_bytes(config, batch, recipe.stage2.candidates, recipe.stage2.sampling.max_new_tokens)
        return Needs(role, parts, {"rewrite": (beside, False)}, stays=kind == "int8")
    return Needs(role, parts)


def told(recipe: Recipe, needs: Sequence[Needs]) -> list[str]:
    """A plan in lines."""
    lines = ["memory in GB, weights by their files' headers, what phases need beside them measured here or reckoned:"]
    for item in needs:
        weights = ", ".join(f"{part.name} {_gigabytes(part.bytes)}" for part in item.parts)
        phases = [f"{phase} + {_gigabytes(value)}{_how(value, here)}" for phase, (value, here) in item.phases.items()]
        lines.append(f"  {item.role}: {item.remark or '; '.join([weights, *phases])}")
    if not all(item.here for item in needs):
        lines.append(
            "  what they need together, and which cards hold it, is told once all are here (`rapo-lightning ckpt fetch`)"
        )
    elif any(item.parts for item in needs):
        at_once = ", ".join(f"{policy} {_gigabytes(total(needs, policy))}" for policy in POLICIES)
        cards = ", ".join(f"{card} GB: {fitting(needs, card * 1e9) or 'none'}" for card in CARDS)
        lines += [
            f"  at once: {at_once} (this recipe: {recipe.residency})",
            f"  first policy that fits a card of {cards}",
        ]
    return lines


def _gigabytes(value: int | None) -> str:
    return "?" if value is None else f"{value / 1e9:.1f}"


def _how(value: int | None, measured: bool) -> str:
    return "" if value is None else " (measured)" if measured else " (reckoned)"
