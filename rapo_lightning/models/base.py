"""What the stages ask of a model. Any class with these methods can be named in a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..prompting.chat import Messages, Sampling


class Model(Protocol):
    """A model that loads once, on first use, and can be moved."""

    name: str
    """Short name of the checkpoint, as it stands in the rows."""

    def load(self) -> None:
        """Loads the weights, once; further calls do nothing."""

    def to(self, device: torch.device) -> None:
        """Loads if needed and moves to `device`."""


class VideoModel(Model, Protocol):
    """A text-to-video model."""

    fps: float
    """Frames per second of its videos."""
    batch_size: int
    """Videos per call of `generate`; a kill loses at most that many. It is halved where memory runs out."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """One video per prompt, RGB, `(frames, height, width, 3)`; a video depends on its prompt and seed alone.

        One that has pixels that are no numbers is returned as it came, in floats: it is recorded as such and not judged.
        So is one that could not be made, `np.empty((0, 0, 0, 3), np.uint8)`.
        """


class LanguageModel(Model, Protocol):
    """A chat model."""

    def complete(
        self, conversations: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, count: int = 1
    ) -> list[list[str]]:
        """`count` answers per conversation; an answer depends on its conversation, seed and position alone."""

    def choose(
        self, conversations: Sequence[Messages], openings: Sequence[str], choices: Sequence[str]
    ) -> NDArray[np.float64]:
        """Probabilities that answers which begin so go on with each of the choices, as `VisionLanguageModel.choose`."""


def count_tokens(model: LanguageModel, text: str) -> int:
    """Tokens of a text, by the model's own tokenizer where it has one (`count_tokens(text)`, in no protocol).

    Else an estimate: a token for every three bytes of UTF-8 (ours, on the safe side: English has about four to a token).
    """
    own = getattr(model, "count_tokens", None)
    return int(own(text)) if own else math.ceil(len(text.encode()) / 3)


class Embedder(Model, Protocol):
    """A sentence embedder."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, `(texts, dimensions)`."""


class VisionLanguageModel(Model, Protocol):
    """A chat model that sees videos; the first user turn of a conversation has the video before its text."""

    def answer(
        self, videos: Sequence[NDArray[np.uint8]], fps: float, conversations: Sequence[Messages], max_new_tokens: int
    ) -> list[str]:
        """The most likely answer to each conversation.

        Args:
            videos: RGB, `(frames, height, width, 3)`, one per conversation.
            fps: Their frames per second.
            conversations: Turns up to the user's last.
            max_new_tokens: Longest answer in tokens.
        """

    def choose(
        self,
        videos: Sequence[NDArray[np.uint8]],
        fps: float,
        conversations: Sequence[Messages],
        openings: Sequence[str],
        choices: Sequence[str],
    ) -> NDArray[np.float64]:
        """Probabilities that answers which begin so go on with each of the choices, `(conversations, choices)`.

        They are those of the choices' first tokens among all tokens, so a row need not add up to 1.
        """


def answer_and_choose(
    model: VisionLanguageModel,
    videos: Sequence[NDArray[np.uint8]],
    fps: float,
    conversations: Sequence[Messages],
    max_new_tokens: int,
    opening: Callable[[str], str],
    choices: Sequence[str],
) -> tuple[list[str], NDArray[np.float64]]:
    """Answers, and how likely each goes on with some choices, by the model's own method where it has one.

    That method has this name and these arguments but the first, is in no protocol, and must find what is found here in two passes.

    Args:
        model: The model.
        videos: RGB, `(frames, height, width, 3)`, one per conversation.
        fps: Their frames per second.
        conversations: Turns up to the user's last.
        max_new_tokens: Longest answer in tokens.
        opening: What of an answer stands before the choice.
        choices: How it may go on.

    Returns:
        As `VisionLanguageModel.answer` and, for the openings of these answers, `VisionLanguageModel.choose`.
    """
    own = getattr(model, "answer_and_choose", None)
    if own is not None:
        answers, likely = own(videos, fps, conversations, max_new_tokens, opening, choices)
        return answers, likely
    answers = model.answer(videos, fps, conversations, max_new_tokens)
    return answers, model.choose(videos, fps, conversations, [opening(text) for text in answers], choices)
