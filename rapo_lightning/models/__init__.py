"""The models of the loop: one small class per kind, behind one small protocol each."""

from .base import Embedder, LanguageModel, VideoModel
from .diffusers_video import DiffusersVideoModel
from .residency import OnDemand, Residency
from .sentence_embedder import SentenceEmbedder
from .transformers_language import TransformersLanguageModel

__all__ = [
    "DiffusersVideoModel",
    "Embedder",
    "LanguageModel",
    "OnDemand",
    "Residency",
    "SentenceEmbedder",
    "TransformersLanguageModel",
    "VideoModel",
]
