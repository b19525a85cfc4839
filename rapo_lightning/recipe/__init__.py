"""The recipe: everything a run depends on, typed, read from YAML in one place, and turned into objects."""

from .evaluation import Evaluation
from .schema import Recipe
from .stages import Component, Draft, Stage1, Stage2
from .training import Lora, Optimizer, Stage3, Views

__all__ = ["Component", "Draft", "Evaluation", "Lora", "Optimizer", "Recipe", "Stage1", "Stage2", "Stage3", "Views"]
