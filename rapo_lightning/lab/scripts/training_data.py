"""Endless training data for lab-wan, made by the world itself: clips and captions of the training split."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..captions import caption
from ..render import background_image, render_batch
from ..scene import Scene, sample_scene
from ..world import BACKGROUNDS, NUM_FRAMES

CAPTION_TOKENS = 64
"""Longest caption in tokens; the longest one of 100,000 has fewer."""
_CHUNK = 256


def sample_scenes(count: int, seed: int, split: str = "train") -> list[Scene]:
    """Draws `count` scenes of a split."""
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, split) for _ in range(count)]


def sample_captions(scenes: list[Scene], seed: int) -> list[str]:
    """One caption for each scene."""
    rng = np.random.default_rng(seed)
    return [caption(scene, rng) for scene in scenes]


class ClipPool:
    """Rendered clips, kept as bytes on the training device.

    Attributes:
        clips: `(count, 17, 3, 64, 64)`, uint8.
        background_ids: Index of each clip's background, `(count,)`.
        backgrounds: All empty backgrounds in -1..1, `(6, 3, 1, 64, 64)`.
    """

    def __init__(self, scenes: list[Scene], seed: int, device: torch.device) -> None:
        """Renders `scenes` on `device`."""
        rng = np.random.default_rng(seed)
        names = list(BACKGROUNDS)
        self.clips = torch.empty(len(scenes), NUM_FRAMES, 3, 64, 64, dtype=torch.uint8, device=device)
        for start in range(0, len(scenes), _CHUNK):
            clips = render_batch(scenes[start : start + _CHUNK], rng, device=device)
            self.clips[start : start + len(clips)] = (clips * 255).round().to(torch.uint8)
        self.background_ids = torch.tensor([names.index(scene.background) for scene in scenes], device=device)
        empty = torch.stack([background_image(name, device) for name in names])
        self.backgrounds = empty[:, :, None] * 2 - 1

    def batch(self, indices: Tensor, frames: int, start: int = 0) -> tuple[Tensor, Tensor]:
        """Clips in -1..1, `(batch, 3, frames, 64, 64)`, and their empty backgrounds, `(batch, 3, 1, 64, 64)`."""
        clips = self.clips[indices, start : start + frames].transpose(1, 2).float() / 127.5 - 1
        return clips, self.backgrounds[self.background_ids[indices]]

    def sample(self, count: int, frames: int) -> tuple[Tensor, Tensor]:
        """A random batch of random sections of `frames` frames."""
        indices = torch.randint(len(self.clips), (count,), device=self.clips.device)
        start = int(torch.randint(NUM_FRAMES - frames + 1, (1,)))
        return self.batch(indices, frames, start)


def tokenize(tokenizer: PreTrainedTokenizerFast, captions: list[str], device: torch.device) -> Tensor:
    """Token ids of captions, zero-padded, `(count, CAPTION_TOKENS)`, int64."""
    encoded = tokenizer(captions, padding="max_length", max_length=CAPTION_TOKENS, truncation=True)
    return torch.tensor(encoded["input_ids"], device=device)
