"""The models of the loop: one small class per kind, behind one small protocol each, and the pool that owns them."""

from .base import Embedder, LanguageModel, Model, VideoModel, VisionLanguageModel, answer_and_choose, count_tokens
from .command_video import CommandVideoModel
from .diffusers_video import DiffusersVideoModel
from .pool import Lent, ModelPool
from .reward_model import RewardModel
from .sentence_embedder import SentenceEmbedder
from .server import ServerLanguageModel
from .server_vision import ServerVisionLanguageModel
from .transformers_language import AdaptedLanguageModel, TransformersLanguageModel
from .transformers_vision import TransformersVisionLanguageModel
from .video_server import VideoServer

__all__ = [
    "AdaptedLanguageModel",
    "CommandVideoModel",
    "DiffusersVideoModel",
    "Embedder",
    "LanguageModel",
    "Lent",
    "Model",
    "ModelPool",
    "RewardModel",
    "SentenceEmbedder",
    "ServerLanguageModel",
    "ServerVisionLanguageModel",
    "TransformersLanguageModel",
    "TransformersVisionLanguageModel",
    "VideoModel",
    "VideoServer",
    "VisionLanguageModel",
    "answer_and_choose",
    "count_tokens",
]
