"""rapo-lightning: closed-loop prompt refinement for text-to-video models, and refiners trained from it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models.refiner import Refiner

try:
    __version__ = version("rapo-lightning")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0.0.0"

__all__ = ["Refiner", "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `rapo-lightning --help` should not wait for torch.
    if name == "Refiner":
        from .models.refiner import Refiner

        return Refiner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
