"""What makes a diffusers pipeline faster: compiled blocks and attention kernels (the same mathematics), caches (another)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Literal

import torch
from torch import nn

from ..errors import UserError

Attention = Literal["auto", "native", "cudnn", "flash", "flash3", "flash3_kernels"]
_BACKENDS: dict[str, tuple[str, str]] = {
    "native": ("native", ""),
    "cudnn": ("_native_cudnn", ""),
    "flash": ("flash", "flash_attn"),
    "flash3": ("_flash_3", "flash_attn_interface"),
    "flash3_kernels": ("_flash_3_hub", "kernels"),
}
"""What diffusers calls a backend, and the package that it needs."""
_CACHES = {
    "first_block": "FirstBlockCacheConfig",
    "taylorseer": "TaylorSeerCacheConfig",
    "mag": "MagCacheConfig",
    "sea": "SeaCacheConfig",
}
"""Configurations of diffusers by kind of cache."""
_FOR_THE_BATCH = ("first_block", "sea")
"""Caches that decide once for a whole batch."""


def denoisers(pipeline: Any) -> Iterator[nn.Module]:
    """The transformers of a pipeline, or its U-Net."""
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module) and name.startswith(("transformer", "unet")):
            yield part


def compile_blocks(model: nn.Module) -> int:
    """Compiles the blocks that a transformer repeats, when they first run; returns how many there are.

    Which they are says diffusers (`_repeated_blocks`); where it does not, they are the items of the model's lists of modules.
    The forward methods are compiled and not the modules: hooks of caches and of offloading, which decide by data, go around
    them afterwards and stay as they are.

    Args:
        model: The transformer.
    """
    named = set(getattr(model, "_repeated_blocks", None) or ())
    if not named:
        named = {type(item).__name__ for part in model.children() if isinstance(part, nn.ModuleList) for item in part}
    blocks = [part for part in model.modules() if type(part).__name__ in named]
    for block in blocks:
        # Sizes are few: those of the recipe's videos, and of its drafts.
        block.forward = torch.compile(block.forward, dynamic=False)  # type: ignore[method-assign]
    return len(blocks)


def check_attention(backend: str) -> None:
    """Checks that a backend's package is here.

    Raises:
        UserError: If it is not.
    """
    package = _BACKENDS[backend][1] if backend != "auto" else ""
    if package and importlib.util.find_spec(package) is None:
        raise UserError(
            f"`attention_backend` must be one that is installed. Got {backend!r}, which needs the package {package!r}; "
            "install it, or take `auto`."
        )


def set_attention(model: Any, backend: str, device: torch.device, dtype: torch.dtype) -> str:
    """Chooses the attention kernels of a transformer; returns what diffusers calls them, empty where nothing was changed.

    Args:
        model: The transformer.
        backend: `auto` takes cuDNN for Wan on Hopper cards (the fastest with compiled blocks in a trial: docs/performance.md) and leaves
            others as they are.
        device: Where it works; other kernels than `native` are for CUDA.
        dtype: Its type; other kernels than `native` take half precision alone.

    Raises:
        UserError: If this device, type or release cannot do it.
    """
    half = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
    if backend == "auto":
        # Wan's attention has no mask; others' (LTX, HunyuanVideo) have, and cuDNN was not tried with them.
        if not (half and type(model).__name__.startswith("Wan") and torch.cuda.get_device_capability(device)[0] == 9):
            return ""
        backend = "cudnn"
    if backend != "native" and not half:
        raise UserError(
            f"`attention_backend: {backend}` needs a CUDA device and a dtype of 16 bits. Got {device} and "
            f"{str(dtype).removeprefix('torch.')}; take `auto`."
        )
    name = _BACKENDS[backend][0]
    try:
        model.set_attention_backend(name)
    except (AttributeError, ValueError, RuntimeError, ImportError, OSError) as error:
        raise UserError(
            f"`attention_backend: {backend}` must be one that diffusers can set for {type(model).__name__}. Got "
            f"{' '.join(str(error).split())[:200].rstrip('.')}; take `auto`."
        ) from error
    return name


def check_cache(cache: dict[str, Any], batch_size: int) -> Any:
    """The configuration that a cache is switched on with, None for none.

    Args:
        cache: `kind`, and what its configuration in diffusers takes; empty for none.
        batch_size: Videos of a call.

    Raises:
        UserError: If this release of diffusers has no such cache, an argument is not right, or a video would depend on others.
    """
    if not cache:
        return None
    import diffusers

    kind = cache.get("kind")
    found = getattr(diffusers, _CACHES.get(str(kind), ""), None)
    if found is None:
        there = [name for name, config in _CACHES.items() if hasattr(diffusers, config)]
        raise UserError(
            f"`cache.kind` must be one of {', '.join(there)} (diffusers {diffusers.__version__}). Got {kind!r}."
        )
    if kind in _FOR_THE_BATCH and batch_size != 1:
        raise UserError(
            f"`cache.kind: {kind}` decides for all videos of a call together, and a video must depend on no other. Got "
            f"`batch_size: {batch_size}`; set it to 1."
        )
    given = {key: value for key, value in cache.items() if key != "kind"}
    known = [field.name for field in fields(found)]
    if unknown := sorted(set(given) - set(known)):
        raise UserError(f"`cache` of kind {kind} takes {', '.join(known)}. Got {', '.join(unknown)}.")
    try:
        return found(**given)
    except (TypeError, ValueError) as error:
        raise UserError(f"`cache` must suit {found.__name__}. Got {' '.join(str(error).split())[:200]}") from error


def enable_cache(pipeline: Any, config: Any) -> None:
    """Switches a cache on for all transformers of a pipeline; each video starts with an empty one.

    Raises:
        UserError: If the transformer has none, or none of its blocks would use it.
    """
    for model in denoisers(pipeline):
        if hasattr(model, "enable_cache"):
            try:
                model.enable_cache(config)
            except (ValueError, KeyError) as error:
                raise _uncached(model, config) from error
        # Some caches find blocks by name, and say nothing where there is none of that name.
        hooks = [getattr(part, "_diffusers_hook", None) for part in model.modules() if part is not model]
        if not any(hook is not None and hook.hooks for hook in hooks):
            raise _uncached(model, config)


def _uncached(model: nn.Module, config: Any) -> UserError:
    return UserError(
        f"`cache` needs a transformer whose blocks it can be put on. Got {type(model).__name__}, of which "
        f"{type(config).__name__} finds none; take another `kind`, name the blocks (`cache_identifiers`), or leave it out."
    )
