"""LightningDataModules of rapo-lightning: prompts for the loop, pairs for the refiner."""

from .pairs import PairDataModule
from .prompts import PromptDataModule

__all__ = ["PairDataModule", "PromptDataModule"]
