"""Any text-to-video pipeline of diffusers, by class name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from ..checkpoints import locate
from ..errors import UserError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class DiffusersVideoModel:
    """A diffusers pipeline that makes one video per prompt and seed."""

    def __init__(
        self,
        checkpoint: str,
        pipeline: str = "WanPipeline",
        call: dict[str, Any] | None = None,
        fps: float = 16.0,
        dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16",
        vae_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        batch_size: int = 1,
    ) -> None:
        """Checks the arguments; weights are loaded on first use.

        Args:
            checkpoint: Name in the checkpoint manifest, folder, or hub id.
            pipeline: Class name in `diffusers`.
            call: Arguments of the pipeline's call: size, frames, steps, guidance, negative prompt, ...
            fps: Frames per second of the model's videos (Wan2.1: 16).
            dtype: Type of transformer and text encoder.
            vae_dtype: Type of the VAE; diffusers advises float32 for Wan.
            batch_size: Videos per pipeline call. A short batch is filled up, so that a video does not depend, by
                rounding, on how many others there are.

        Raises:
            UserError: If diffusers has no such pipeline.
        """
        if not hasattr(diffusers, pipeline):
            raise UserError(f"`pipeline` must be a class of diffusers {diffusers.__version__}. Got {pipeline!r}.")
        self.name, self.pipeline_class, self.call, self.fps = checkpoint, pipeline, dict(call or {}), fps
        self.dtype, self.vae_dtype, self.batch_size = _DTYPES[dtype], _DTYPES[vae_dtype], batch_size
        self._pipeline: Any = None

    def load(self) -> None:
        """Loads the pipeline, once."""
        if self._pipeline is None:
            path = locate(self.name)
            self._pipeline = getattr(diffusers, self.pipeline_class).from_pretrained(path, torch_dtype=self.dtype)
            if self.vae_dtype != self.dtype:
                self._pipeline.vae.to(self.vae_dtype)
            self._pipeline.set_progress_bar_config(disable=True)

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
            missing = self.batch_size - len(texts)
            # Noise comes from CPU generators, one per video: the same on every device and in every batch.
            generators = [torch.Generator().manual_seed(int(seed)) for seed in (*numbers, *([0] * missing))]
            output = self._pipeline(
                prompt=texts + [texts[-1]] * missing, generator=generators, output_type="np", **self.call
            ).frames
            videos += [(video * 255).round().astype(np.uint8) for video in output[: len(texts)]]
        return videos
