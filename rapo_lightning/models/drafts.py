"""A video model with other arguments of its call, for videos that need not be as good as it can make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError
from .base import VideoModel
from .pipeline_call import check_call

_OF_TEXTS = {"prompt", "prompt_2", "negative_prompt", "negative_prompt_2", "prompt_template", "max_sequence_length"}
"""Arguments of a call that decide what a text encoder reads."""


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as they stand in a row: `kind=first_block, threshold=0.05`."""
    return ", ".join(f"{name}={value}" for name, value in sorted(settings.items()))


class DraftVideoModel:
    """The drafts of a video model: the same weights, and its `batch_size`, which is halved for both where memory runs out."""

    def __init__(self, model: VideoModel, call: Mapping[str, Any]) -> None:
        """Takes the model and what its call is given instead of its own.

        Args:
            model: The model; it needs `call` and `generate_by`, as `DiffusersVideoModel` has them.
            call: Arguments of the call.

        Raises:
            UserError: If the model has no call whose arguments could be others, its pipeline no such argument, or these change
                what its text encoder reads.
        """
        self._model = cast(Any, model)
        if not callable(getattr(model, "generate_by", None)):
            raise UserError(
                f"`stage2.draft` needs a video model that takes other arguments for a call. Got {type(model).__name__}; use "
                "`DiffusersVideoModel`, or leave `draft` out."
            )
        if changed := sorted(_OF_TEXTS & set(call)):
            raise UserError(
                "`stage2.draft.call` must leave what the text encoder reads as it is: texts are read once for drafts and others. "
                f"Got {', '.join(changed)}; leave it out, or change `video_model` itself."
            )
        _check(str(getattr(model, "pipeline_class", "")), call)
        self._call = {**self._model.call, **call}
        self.name, self.fps = model.name, model.fps
        self.shortcuts = "; ".join(
            text for text in (getattr(model, "shortcuts", ""), f"draft {settings_text(call)}") if text
        )

    @property
    def batch_size(self) -> int:
        """Videos of a call."""
        return int(self._model.batch_size)

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._model.batch_size = size

    def load(self) -> None:
        """Loads the model."""
        self._model.load()

    def to(self, device: torch.device) -> None:
        """Moves the model."""
        self._model.to(device)

    def prepare(self, prompts: Sequence[str]) -> None:
        """As the model's, where it has one."""
        if prepare := getattr(self._model, "prepare", None):
            prepare(prompts)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """One draft per prompt; see `base.VideoModel`."""
        return self._model.generate_by(prompts, seeds, self._call)  # type: ignore[no-any-return]


def _check(pipeline: str, call: Mapping[str, Any]) -> None:
    import diffusers  # late, as elsewhere: most commands need none of it

    if isinstance(found := getattr(diffusers, pipeline, None), type):
        check_call(found, call, "stage2.draft.call")
