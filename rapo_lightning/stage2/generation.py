"""One call of a video model: fewer videos where memory runs out, and a look at what it gave."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from accelerate.utils.memory import clear_device_cache
from numpy.typing import NDArray

from ..errors import RunError
from ..models.base import VideoModel
from ..models.memory import is_out_of_memory
from ..verifiers.usable import NO_NUMBERS, NOT_MADE, unreadable

_LOG = logging.getLogger(__name__)


def generate_or_halve(
    model: VideoModel, prompts: Sequence[str], seeds: Sequence[int]
) -> list[NDArray[np.uint8]] | None:
    """One video per prompt, or None where memory ran out: the model's `batch_size` is then half of what it was, for good.

    Args:
        model: The video model.
        prompts: Its prompts, `batch_size` of them at most.
        seeds: Their seeds.

    Raises:
        RunError: If a single video does not fit, or the class gives something else than a video for each prompt.
    """
    try:
        made = model.generate(prompts, seeds)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return _checked(made, model, len(prompts))
    # Behind the `except`: until its end the error holds all that the call had on the device.
    _halve(model)
    return None


def _halve(model: VideoModel) -> None:
    size = model.batch_size
    if size <= 1:
        raise RunError(
            f"The memory must hold one video at a time. Got too little for {_class_of(model)} with a batch of one; make "
            "smaller or shorter videos, give the models a lower `dtype`, or keep the others off the device with `residency: "
            "swap`. What was made is recorded: run the same command again to go on."
        )
    try:
        model.batch_size = size // 2
    except AttributeError as error:
        raise RunError(
            f"A video model's `batch_size` must be an attribute that can be set, for it is halved where memory runs out. Got "
            f"{_class_of(model)}, which refuses it; correct the class, or give it a smaller batch."
        ) from error
    clear_device_cache(garbage_collection=True)
    _LOG.warning("Memory ran out at %d videos per call of the video model: from here on it makes %d.", size, size // 2)


def _checked(made: Sequence[NDArray[np.uint8]], model: VideoModel, count: int) -> list[NDArray[np.uint8]]:
    """The videos, if there is one for each prompt, and one at least is usable or known to be none.

    Known to be none are pixels that are no numbers, and what could not be made. A class that gives nothing else than wrong
    shapes is at fault itself: every video of a long run would be like it.
    """
    if len(made) != count:
        raise RunError(
            f"A video model must make one video of each prompt. Got {len(made)} of {count} from {_class_of(model)}; "
            "correct its `generate`."
        )
    faults = [unreadable(video) for video in made]
    if all(fault not in ("", NO_NUMBERS, NOT_MADE) for fault in faults):
        raise RunError(
            "A video must be an array of uint8 of shape (frames, height, width, 3), RGB. Got "
            f"{faults[0].removeprefix('The video cannot be read: its frames are ').rstrip('.')} from {_class_of(model)}; "
            "correct its `generate`."
        )
    return list(made)


def _class_of(model: VideoModel) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"
