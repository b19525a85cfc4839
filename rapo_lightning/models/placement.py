"""Where the parts of a diffusers pipeline are in each of its phases, by the policy of the pool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

Policy = Literal["resident", "swap", "offload"]
CPU = torch.device("cpu")


class HostCopy:
    """A module whose weights stay on the host, in pinned memory where there is CUDA; the device holds a copy while it is needed.

    For weights that nobody changes: nothing is copied back.
    """

    def __init__(self, module: nn.Module) -> None:
        """Takes a module that is on the CPU."""
        self.module = module
        self._kept: dict[int, Tensor] = {}

    def to(self, device: torch.device) -> None:
        """Moves the weights, or lets go of the device's copy of them."""
        for number, tensor in enumerate((*self.module.parameters(), *self.module.buffers())):
            kept = self._kept.get(number)
            if kept is None:
                kept = self._kept[number] = tensor.data.pin_memory() if device.type == "cuda" else tensor.data
            # One stream for copies and kernels: what uses the weights runs after they have come.
            tensor.data = kept if device.type == "cpu" else kept.to(device, non_blocking=True)


class Placement:
    """The parts of a pipeline, placed by policy.

    `resident`: all on the device. `swap`: the text encoders while prompts are read, the others while videos are made, from pinned
    host memory. `offload`: as `swap`, but of transformers and text encoders only the blocks that are computed, fetched while the
    ones before are (group offloading of diffusers).
    """

    def __init__(self, pipeline: Any, policy: Policy, reads_apart: bool) -> None:
        """Takes a pipeline whose parts are on the CPU.

        Args:
            pipeline: The pipeline.
            policy: The policy.
            reads_apart: Whether prompts are read apart from the pipeline's call; otherwise all parts work together.
        """
        self.pipeline, self.policy, self._apart = pipeline, policy, reads_apart
        self.device = CPU
        parts = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
        self._texts = {name: part for name, part in parts.items() if reads_apart and name.startswith("text_encoder")}
        self._others = {name: part for name, part in parts.items() if name not in self._texts}
        self._copies: dict[str, HostCopy] = {}
        self._there: set[str] = set()
        self._offloaded: set[str] = set()

    def to(self, device: torch.device) -> None:
        """Says where the pipeline works from now on; on the CPU nothing is left on the device before."""
        if self.policy == "resident" or (device.type == "cpu" and not self._copies and not self._offloaded):
            self.pipeline.to(device)
        elif device.type == "cpu":
            self._keep(set())
        self.device = device

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Prompts go through the text encoders."""
        self._bring(self._texts)
        yield

    @contextmanager
    def making(self) -> Iterator[None]:
        """Videos are made."""
        self._bring(self._others)
        if self.policy == "resident" or self.device.type == "cpu":
            yield
            return
        # A pipeline takes the device of its first part for its own.
        for name in self._texts:
            setattr(self.pipeline, name, None)
        try:
            yield
        finally:
            for name, part in self._texts.items():
                setattr(self.pipeline, name, part)

    def _bring(self, parts: dict[str, nn.Module]) -> None:
        """Brings these parts to the device and takes all others off it."""
        if self.policy == "resident" or self.device.type == "cpu":
            return
        self._keep(set(parts))
        for name, part in parts.items():
            if self.policy == "offload" and not name.startswith("vae"):
                self._offload(name, part)
            elif name not in self._there:
                self._copies.setdefault(name, HostCopy(part)).to(self.device)
                self._there.add(name)

    def _keep(self, names: set[str]) -> None:
        """Takes all parts but these off the device."""
        for name in self._there - names:
            self._copies[name].to(CPU)
        self._there &= names

    def _offload(self, name: str, part: nn.Module) -> None:
        """Has a part's blocks fetched as they are needed, once for all."""
        from diffusers.hooks import apply_group_offloading

        if name not in self._offloaded:
            overlapped = self.device.type == "cuda"
            apply_group_offloading(
                part, onload_device=self.device, offload_device=CPU, offload_type="block_level", num_blocks_per_group=1,
                use_stream=overlapped, non_blocking=overlapped,
            )  # fmt: skip
            self._offloaded.add(name)
