"""Verifiers: what looks at a video and scores it, for the loop and for the evaluation."""

from .base import Judgement, Verifier, View
from .basic import MeanOfVerifiers, TextFidelity, WordCount
from .physics import Physics
from .temporal import MotionSmoothness, TemporalCoherence
from .vlm_alignment import VlmAlignment
from .vlm_aspects import VlmAspects

__all__ = [
    "Judgement",
    "MeanOfVerifiers",
    "MotionSmoothness",
    "Physics",
    "TemporalCoherence",
    "TextFidelity",
    "Verifier",
    "View",
    "VlmAlignment",
    "VlmAspects",
    "WordCount",
]
