"""Verifiers: what looks at a video and scores it, for the loop and for the evaluation."""

from .base import Judgement, Verifier, View
from .basic import MeanOfVerifiers, TemporalCoherence, TextFidelity
from .flow import Flow, measure_flow

__all__ = [
    "Flow",
    "Judgement",
    "MeanOfVerifiers",
    "TemporalCoherence",
    "TextFidelity",
    "Verifier",
    "View",
    "measure_flow",
]
