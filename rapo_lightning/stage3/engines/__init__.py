"""What trains a refiner: an engine for each training, by the plan of what it is made of."""

from .engine import Best, Engine
from .lightning.engine import LightningEngine
from .plan import Phase, Plan, phases


def make_engine(plan: Plan) -> Engine:
    """The engine of a plan; making it checks all that can be checked without a model.

    Raises:
        UserError: If the recipe's `trainer` does not suit it.
    """
    if plan.engine == "trl":
        # TRL takes seconds to import, and most trainings do without it.
        from .trl.engine import TrlEngine

        return TrlEngine(plan)
    return LightningEngine(plan)


__all__ = ["Best", "Engine", "Phase", "Plan", "make_engine", "phases"]
