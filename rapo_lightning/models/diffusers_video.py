"""Any text-to-video pipeline of diffusers, by class name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints import loading, locate
from ..errors import UserError
from .diffusers_lora import add_lora, check_fit, check_lora
from .diffusers_parts import checked_scheduler, diffusers_class, rescheduled
from .diffusers_speed import (
    Attention,
    check_attention,
    check_cache,
    compile_blocks,
    denoisers,
    enable_cache,
    set_attention,
)
from .drafts import settings_text
from .memory import is_out_of_memory
from .phases import StepsThenDecode, phase
from .pipeline_call import check_call
from .pipeline_folder import check_pipeline_folder
from .placement import CPU, Placement, Policy
from .prompt_cache import PromptCache, filled_size, read_apart

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
        compile: bool = False,
        attention_backend: Attention = "auto",
        cache: dict[str, Any] | None = None,
        lora: dict[str, Any] | None = None,
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
            compile: Compile the transformer's repeated blocks: a minute once a process, worth it where a video takes minutes.
            attention_backend: PyTorch's choice (`native`), cuDNN's, FlashAttention 2 or 3 (packages `flash_attn`,
                `flash_attn_interface`, or 3 by `kernels` from the hub). `auto` is cuDNN for Wan on Hopper, else `native`.
            cache: Recorded in each row: steps reuse what earlier ones computed. `kind` (`first_block`, `taylorseer`, `mag`,
                `sea`) and the arguments of its configuration in diffusers, such as `threshold`.
            lora: Recorded in each row: a LoRA added to the weights, by the fields of `diffusers_lora.VideoLora`.

        Raises:
            UserError: If diffusers has no such pipeline, scheduler or cache, the pipeline no such argument or no place for a
                LoRA, an attention backend is not installed, or a number is out of range.
        """
        found = diffusers_class(pipeline, "DiffusionPipeline", "pipeline")
        check_call(found, call or {}, "call")
        if batch_size < 1 or fps <= 0:
            raise UserError(f"`batch_size` must be at least 1 and `fps` above 0. Got {batch_size} and {fps}.")
        self.name, self.pipeline_class, self.call, self.fps = checkpoint, pipeline, dict(call or {}), fps
        self.vae_tiling = vae_tiling
        self.scheduler = checked_scheduler(dict(scheduler or {}))
        vae_dtype = vae_dtype or ("float32" if pipeline.startswith("Wan") else dtype)
        self.dtype, self.vae_dtype, self.batch_size = _DTYPES[dtype], _DTYPES[vae_dtype], batch_size
        check_attention(attention_backend)
        self.compile, self.attention_backend = compile, attention_backend
        self.cache, self._cache = dict(cache or {}), check_cache(dict(cache or {}), batch_size)
        self.lora, self._lora = dict(lora or {}), check_lora(lora or {}, found)
        self.residency: Policy = "resident"
        """What stays on the device; the pool says so before anything is loaded."""
        self._pipeline: Any = None
        self._placement: Placement | None = None
        self._attends_on = CPU
        self._texts: PromptCache | None = None

    def load(self) -> None:
        """Loads the pipeline, once.

        Raises:
            UserError: If the checkpoint is not known, is another pipeline's or lacks a part, its scheduler has no such setting,
                or the LoRA is another transformer's.
            RunError: If it cannot be loaded.
        """
        if self._pipeline is not None:
            return
        path, found = locate(self.name), diffusers_class(self.pipeline_class, "DiffusionPipeline", "pipeline")
        if Path(path).is_dir():
            check_pipeline_folder(Path(path), self.pipeline_class)
        if self._lora is not None:
            check_fit(self._lora, found, path)
        with loading("video model", path):
            # Each part is read in its own type: a VAE that went through bfloat16 would have lost its last digits.
            dtypes = {"default": self.dtype, "vae": self.vae_dtype}
            pipeline = found.from_pretrained(path, dtype=dtypes, trust_remote_code=False)
            if self.scheduler:
                pipeline.scheduler = rescheduled(pipeline.scheduler, self.scheduler)
            if self.vae_tiling:
                pipeline.vae.enable_tiling()
        if self._lora is not None:
            with loading("LoRA", self._lora.checkpoint):
                add_lora(self._lora, pipeline)
        pipeline.set_progress_bar_config(disable=True)
        for model in denoisers(pipeline) if self.compile else ():
            compile_blocks(model)
        if self._cache is not None:
            enable_cache(pipeline, self._cache)
        apart = read_apart(type(pipeline).__name__, self.call)
        self._texts = PromptCache(pipeline, self.call) if apart else None
        self._placement = Placement(pipeline, self.residency, apart)
        self._pipeline = pipeline

    def to(self, device: torch.device) -> None:
        """Loads if needed and moves to `device`, by its `residency`.

        Raises:
            UserError: If the device has not the attention kernels that are asked for.
        """
        self.load()
        if self._placement is not None:
            if device not in (CPU, self._attends_on):
                self._attends_on = device
                for model in denoisers(self._placement.pipeline):
                    set_attention(model, self.attention_backend, device, self.dtype)
            self._placement.to(device)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Reads prompts where the text encoder makes room for the rest, so that it comes once for all; in no protocol."""
        if self.residency == "resident":
            return
        try:
            self._read(prompts)
        except (RuntimeError, MemoryError) as error:
            # The call that makes the videos reads what is missing, and who asks for it halves the batch.
            if not is_out_of_memory(error):
                raise

    def _read(self, prompts: Sequence[str]) -> None:
        self.load()
        if self._texts is None or self._placement is None:
            return
        if missing := self._texts.missing(prompts):
            with self._placement.reading(), phase("encode"):
                self._texts.encode(missing, self._placement.device, self.batch_size)

    @property
    def shortcuts(self) -> str:
        """What it computes otherwise than its authors do; empty for nothing."""
        given = {"cache": self.cache, "lora": self.lora}
        return "; ".join(f"{name} {settings_text(value)}" for name, value in given.items() if value)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """One video per prompt; see `base.VideoModel`."""
        return self.generate_by(prompts, seeds, self.call)

    def generate_by(self, prompts: Sequence[str], seeds: Sequence[int], call: dict[str, Any]) -> list[NDArray[Any]]:
        """As `generate`, with other arguments of the pipeline's call; in no protocol (`models.drafts`)."""
        videos: list[NDArray[np.uint8]] = []
        for begin in range(0, len(prompts), self.batch_size):
            texts, numbers = list(prompts[begin : begin + self.batch_size]), seeds[begin : begin + self.batch_size]
            missing = filled_size(len(texts), self.batch_size) - len(texts)
            # Noise comes from CPU generators, one per video: the same on every device and in every batch.
            generators = [torch.Generator().manual_seed(int(seed)) for seed in (*numbers, *([0] * missing))]
            self._read(texts)
            made = self._run(texts + [texts[-1]] * missing, generators, call)
            videos += [to_uint8(video) for video in made[: len(texts)]]
        return videos

    def _run(self, prompts: list[str], generators: list[torch.Generator], call: dict[str, Any]) -> Sequence[Tensor]:
        """The videos of one call of the pipeline, each `(frames, 3, height, width)` in 0..1."""
        given: dict[str, Any] = {**call, "generator": generators, "output_type": "pt"}
        if self._texts is None or self._placement is None:
            return self._pipeline(prompt=prompts, **given).frames  # type: ignore[no-any-return]
        given.pop("negative_prompt", None)
        with self._placement.making(), StepsThenDecode() as steps:
            given |= self._texts.arguments(prompts, self._placement.device)
            accepted = set(inspect.signature(type(self._placement.pipeline).__call__).parameters)
            return self._pipeline(**given, **steps.options(accepted)).frames  # type: ignore[no-any-return]


def to_uint8(video: Tensor) -> NDArray[Any]:
    """A video in bytes, `(frames, height, width, 3)`; in floats where a pixel is no number, which would become black and be judged.

    Bytes are made where the video is: there are a quarter of them to fetch from a GPU, and the CPU would take a second.

    Args:
        video: RGB in 0..1, `(frames, 3, height, width)`.
    """
    frames = video.float().permute(0, 2, 3, 1)
    if not bool(frames.isfinite().all()):
        return frames.cpu().numpy()
    return (frames * 255).round().to(torch.uint8).contiguous().cpu().numpy()
