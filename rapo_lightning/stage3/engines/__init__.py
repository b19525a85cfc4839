"""What trains a refiner: an engine for each training, by the plan of what it is made of."""

from .engine import Best, Engine
from .lightning.engine import LightningEngine
from .plan import Phase, Plan, phases

ENGINES: dict[str, type[Engine]] = {"lightning": LightningEngine}
"""The engines by name."""

__all__ = ["ENGINES", "Best", "Engine", "LightningEngine", "Phase", "Plan", "phases"]
