"""Videos as processors of vision-language models take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError

_FEWEST_FRAMES = 4
"""Videos with fewer frames go on with their last one: processors of the Qwen family sample no fewer."""
Frames = NDArray[np.uint8]


def whole_seconds(model: Any) -> float:
    """Lets the model count time in its own steps, and returns how many of them a second has.

    transformers up to 5.17 cuts the seconds between two frame pairs to whole ones before it multiplies them by the steps of
    a second, which puts all frames of a video with more than two pairs a second at one time. Multiplied here, only the
    product is cut, as in later releases.
    """
    vision: Any = getattr(model.config, "vision_config", None)
    steps = getattr(vision, "tokens_per_second", None)
    if not steps:
        return 1.0
    vision.tokens_per_second = 1
    return float(steps)


def checked_frames(video: Frames) -> Frames:
    """The frames, four at least.

    Raises:
        UserError: If they are no video in 8 bit.
    """
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3 or not len(video):
        raise UserError(
            "A video must be RGB in 8 bit, (frames, height, width, 3), with one frame at least. "
            f"Got {video.dtype} of shape {video.shape}."
        )
    lacking = max(_FEWEST_FRAMES - len(video), 0)
    return np.concatenate([video, np.repeat(video[-1:], lacking, axis=0)]) if lacking else video


def metadata(video: Frames, fps: float) -> dict[str, Any]:
    """What a processor is told of a video."""
    count, height, width = video.shape[:3]
    return {
        "fps": fps, "total_num_frames": count, "frames_indices": list(range(count)), "height": height, "width": width,
        "duration": count / fps,
    }  # fmt: skip
