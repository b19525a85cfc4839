"""Any text-to-video pipeline of diffusers, by class name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..checkpoints import loading, locate
from ..errors import UserError

Dtype = Literal["float32", "bfloat16", "float16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class DiffusersVideoModel:
    """A diffusers pipeline that makes one video per prompt and seed.

    A video's noise depends on its seed alone. What else a video depends on is rounding: libraries choose other kernels for
    other numbers of videos per call. So a short batch is filled up, see `filled_size`: up to a `batch_size` of 8 every call
    has that many, and a video is the same to the last byte whatever else is asked for. Above, a call has 8, 16, 32, ... or
    `batch_size` videos; in float32 on a CPU one byte in ten thousand of the lab's videos then differs by one level, on a
    GPU or in bfloat16 more may.
    """

    def __init__(
        self,
        checkpoint: str,
        pipeline: str = "WanPipeline",
        call: dict[str, Any] | None = None,
        fps: float = 16.0,
        dtype: Dtype = "bfloat16",
        vae_dtype: Dtype | None = None,
        batch_size: int = 1,
        scheduler: dict[str, Any] | None = None,
        vae_tiling: bool = False,
    ) -> None:
        """Checks the arguments; weights are loaded on first use.

        Args:
            checkpoint: Name in the checkpoint manifest, folder, or hub id.
            pipeline: Class name in `diffusers`.
            call: Arguments of the pipeline's call: size, frames, steps, guidance, negative prompt, ...
            fps: Frames per second of the model's videos (Wan2.1: 16).
            dtype: Type of transformer and text encoder.
            vae_dtype: Type of the VAE; None is float32 for Wan pipelines, as diffusers advises, and `dtype` for all others,
                some of which (CogVideoX, Latte, Mochi) run with nothing else.
            batch_size: Most videos per pipeline call; a short batch is filled up.
            scheduler: Replaces the checkpoint's: `class_name`, a scheduler of `diffusers` (by default the same), and entries
                that replace those of its configuration, such as `flow_shift: 3.0`.
            vae_tiling: Decode frames in overlapping tiles, where whole ones take too much memory; pixels at the seams differ.

        Raises:
            UserError: If diffusers has no such pipeline or scheduler, or a number is out of range.
        """
        _diffusers_class(pipeline, "DiffusionPipeline", "pipeline")
        if batch_size < 1 or fps <= 0:
            raise UserError(f"`batch_size` must be at least 1 and `fps` above 0. Got {batch_size} and {fps}.")
        self.name, self.pipeline_class, self.call, self.fps = checkpoint, pipeline, dict(call or {}), fps
        self.vae_tiling = vae_tiling
        self.scheduler = _checked_scheduler(dict(scheduler or {}))
        vae_dtype = vae_dtype or ("float32" if pipeline.startswith("Wan") else dtype)
        self.dtype, self.vae_dtype, self.batch_size = _DTYPES[dtype], _DTYPES[vae_dtype], batch_size
        self._pipeline: Any = None

    def load(self) -> None:
        """Loads the pipeline, once.

        Raises:
            UserError: If the checkpoint is not known, or its scheduler has no such setting.
            RunError: If it cannot be loaded.
        """
        if self._pipeline is not None:
            return
        path, found = locate(self.name), _diffusers_class(self.pipeline_class, "DiffusionPipeline", "pipeline")
        with loading("video model", path):
            # Each part is read in its own type: a VAE that went through bfloat16 would have lost its last digits.
            dtypes = {"default": self.dtype, "vae": self.vae_dtype}
            pipeline = found.from_pretrained(path, dtype=dtypes, trust_remote_code=False)
            if self.scheduler:
                pipeline.scheduler = _rescheduled(pipeline.scheduler, self.scheduler)
            if self.vae_tiling:
                pipeline.vae.enable_tiling()
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline

    def to(self, device: torch.device) -> None:
        """Loads if needed and moves to `device`."""
        self.load()
        self._pipeline.to(device)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """One video per prompt; see `base.VideoModel`."""
        self.load()
        videos: list[NDArray[np.uint8]] = []
        for begin in range(0, len(prompts), self.batch_size):
            texts, numbers = list(prompts[begin : begin + self.batch_size]), seeds[begin : begin + self.batch_size]
            missing = filled_size(len(texts), self.batch_size) - len(texts)
            # Noise comes from CPU generators, one per video: the same on every device and in every batch.
            generators = [torch.Generator().manual_seed(int(seed)) for seed in (*numbers, *([0] * missing))]
            output = self._pipeline(
                prompt=texts + [texts[-1]] * missing, generator=generators, output_type="np", **self.call
            ).frames
            videos += [to_uint8(video) for video in output[: len(texts)]]
        return videos


_LEAST = 8


def filled_size(count: int, batch_size: int) -> int:
    """The number of videos that a call for `count` of them makes: 8, 16, 32, ..., at most `batch_size`.

    Filling up to `batch_size` whatever it is would make 128 videos for the last three; taking a call as it comes would make
    a video depend on how many prompts are left when a run is resumed or shared between processes.
    """
    return min(batch_size, max(_LEAST, 1 << (count - 1).bit_length()))


def to_uint8(video: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """A video in bytes; as it came where a pixel is no number, which would become black and be judged.

    Args:
        video: RGB in 0..1, `(frames, height, width, 3)`.
    """
    return (video * 255).round().astype(np.uint8) if np.isfinite(video).all() else video


def _diffusers_class(name: str, base: str, field: str) -> Any:
    """A class of diffusers by name; what is no subclass of `base` is refused, whatever else diffusers has of that name."""
    # Imported here: it takes seconds, and a recipe's video model is named by commands that make no video.
    import diffusers

    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, getattr(diffusers, base))):
        raise UserError(f"`{field}` must be a {base} of diffusers {diffusers.__version__}. Got {name!r}.")
    return found


def _checked_scheduler(scheduler: dict[str, Any]) -> dict[str, Any]:
    if "class_name" in scheduler:
        found = _diffusers_class(str(scheduler["class_name"]), "SchedulerMixin", "scheduler.class_name")
        _check_overrides(found, scheduler)
    return scheduler


def _check_overrides(found: type, scheduler: dict[str, Any]) -> None:
    known = list(inspect.signature(found).parameters)
    unknown = sorted(set(scheduler) - {"class_name", *known})
    if unknown:
        raise UserError(f"`scheduler` takes what {found.__name__} takes: {', '.join(known)}. Got {', '.join(unknown)}.")


def _rescheduled(present: Any, scheduler: dict[str, Any]) -> Any:
    """A scheduler with the configuration of `present` but for what `scheduler` replaces."""
    named = scheduler.get("class_name")
    found = _diffusers_class(str(named), "SchedulerMixin", "scheduler.class_name") if named else type(present)
    _check_overrides(found, scheduler)
    overrides = {key: value for key, value in scheduler.items() if key != "class_name"}
    return found.from_config(present.config, **overrides)
