"""The models of a process: each loaded once, shared by all who borrow it, and placed by one policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import RunError, UserError
from ..prompting.chat import Messages, Sampling
from .adapted_language import AdaptedLanguageModel
from .base import Embedder, LanguageModel, Model, VideoModel, VisionLanguageModel, count_tokens
from .drafts import DraftVideoModel
from .memory import is_out_of_memory
from .phases import phase
from .placement import Policy
from .transformers_language import TransformersLanguageModel

T = TypeVar("T")
M = TypeVar("M", bound=Model)


class ModelPool:
    """Owns every model of a process.

    Commands create one; stages, evaluation and verifiers borrow from it. A base language model is loaded once, however
    many adapters are used on it. With `"resident"` a model stays on the device once it is there; with `"swap"` whatever
    is there goes back to the CPU first, which costs one move per phase and batch, never per prompt; `"offload"` does the same,
    and a video model that can (it has an attribute `residency`) holds no more than a few of its blocks there.
    """

    def __init__(
        self,
        video: VideoModel | None = None,
        language: LanguageModel | None = None,
        embedder: Embedder | None = None,
        vision_language: VisionLanguageModel | None = None,
        policy: Policy = "resident",
        device: torch.device | None = None,
    ) -> None:
        """Takes models that are built but not loaded.

        Args:
            video: The text-to-video model.
            language: The language model, without the stages' adapters.
            embedder: The sentence embedder.
            vision_language: The vision-language model.
            policy: What stays on the device.
            device: Where models work; None is the GPU if there is one. Lightning's choice replaces it (`place_on`).

        Raises:
            UserError: If a model cannot be there under this policy.
        """
        self._video, self._language, self._embedder, self.policy = video, language, embedder, policy
        self._vision_language = vision_language
        if hasattr(video, "residency"):
            video.residency = policy  # type: ignore[union-attr]
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for model in (language, vision_language):
            if check := getattr(model, "check_place", None):
                check(self.device, policy)
        self._bases: dict[str, TransformersLanguageModel] = {}
        if isinstance(language, TransformersLanguageModel) and not language.adapter:
            self._bases[language.name] = language
        self._adapted: dict[tuple[str, str], Lent] = {}
        self._present: list[Model] = []

    def place_on(self, device: torch.device) -> None:
        """Says where models work from now on; those that are elsewhere are moved when they are next used."""
        if device != self.device:
            self.device = device
            self._present.clear()

    @property
    def video(self) -> VideoModel:
        """The video model, loaded and in place."""
        return self.use(self._known(self._video, "video_model"))

    def draft(self, call: Mapping[str, Any]) -> DraftVideoModel:
        """The video model with other arguments of its call; neither loaded nor in place, as `video` is what brings it there.

        Args:
            call: The arguments.

        Raises:
            UserError: If it takes none.
        """
        return DraftVideoModel(self._known(self._video, "video_model"), call)

    @property
    def shortcuts(self) -> str:
        """What the video model computes otherwise than its authors do; empty for nothing."""
        return str(getattr(self._video, "shortcuts", ""))

    @property
    def language(self) -> LanguageModel:
        """The language model, loaded and in place."""
        return self.use(self._known(self._language, "language_model"))

    @property
    def vision_language(self) -> VisionLanguageModel:
        """The vision-language model, loaded and in place."""
        return self.use(self._known(self._vision_language, "vision_language_model"))

    @property
    def embedder(self) -> Embedder:
        """The embedder, loaded and in place."""
        return self.use(self._known(self._embedder, "embedder"))

    @property
    def names(self) -> dict[str, str]:
        """Names of the models by role, as they stand in rows; empty where there is none."""
        roles = {
            "video_model": self._video,
            "language_model": self._language,
            "vision_language_model": self._vision_language,
            "embedder": self._embedder,
        }
        return {role: model.name if model is not None else "" for role, model in roles.items()}

    @property
    def fps(self) -> float:
        """Frames per second of the video model, without loading it."""
        return self._known(self._video, "video_model").fps

    @staticmethod
    def _known(model: T | None, role: str) -> T:
        if model is None:
            raise UserError(f"This needs a `{role}`. Got a recipe without one; name one.")
        return model

    def use(self, model: M) -> M:
        """Returns `model`, loaded and on the device."""
        owner: Model = model.base if isinstance(model, AdaptedLanguageModel) else model
        if getattr(owner, "remote", False):
            # Nothing has to make room for a model behind a server.
            owner.load()
            return model
        if any(owner is other for other in self._present):
            return model
        if self.policy != "resident":
            self._clear()
        self._move(owner)
        self._present.append(owner)
        return model

    def _move(self, owner: Model) -> None:
        try:
            with phase("load"):
                owner.to(self.device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise RunError(
                f"The device must hold the models that are used together. Got too little memory for {owner.name}; set "
                "`residency: swap`, which keeps one there at a time, or `offload`, which keeps blocks of the video model there, or give the models a lower `dtype`."
            ) from error

    def _clear(self) -> None:
        """Moves everything off the device."""
        for other in self._present:
            other.to(torch.device("cpu"))
        self._present.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def lend(self, model: LanguageModel) -> Lent:
        """A language model that is put in place when it is asked."""
        return Lent(model, self)

    def lend_language(self) -> Lent:
        """The pool's language model, loaded and placed when it is first asked; one never asked costs nothing."""
        return self.lend(self._known(self._language, "language_model"))

    def adapted(self, adapter: str, base: str, batch_size: int = 16, alone: bool = False) -> Lent:
        """A base language model with an adapter on it; the base is shared with all its other users.

        Args:
            adapter: PEFT folder.
            base: The base's checkpoint.
            batch_size: Rows per generation, where the base is not in the pool yet.
            alone: Whether nobody else will use the base: the adapter is then merged into it, which answers faster.
        """
        known = self._adapted.get((adapter, base))
        if known is None:
            owner = self._bases.get(base)
            if owner is None:
                owner = self._bases[base] = TransformersLanguageModel(base, batch_size=batch_size)
            known = self._adapted[adapter, base] = self.lend(owner.adapted(adapter, alone))
        return known


class Lent:
    """A language model of a pool that is loaded and moved when it is asked."""

    def __init__(self, model: LanguageModel, pool: ModelPool) -> None:
        """Takes the model and the pool that owns it."""
        self.model, self.pool, self.name = model, pool, model.name
        self.quantization = getattr(model, "quantization", "none")

    def load(self) -> None:
        """Loads the model."""
        self.model.load()

    def to(self, device: torch.device) -> None:
        """Placement is the pool's business alone: does nothing."""

    def complete(
        self, conversations: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, count: int = 1
    ) -> list[list[str]]:
        """As `base.LanguageModel`."""
        return self.pool.use(self.model).complete(conversations, seeds, sampling, count)

    def count_tokens(self, text: str) -> int:
        """As `base.count_tokens`; needs no place on the device."""
        return count_tokens(self.model, text)

    def choose(
        self, conversations: Sequence[Messages], openings: Sequence[str], choices: Sequence[str]
    ) -> NDArray[np.float64]:
        """As `base.LanguageModel`."""
        return self.pool.use(self.model).choose(conversations, openings, choices)
