"""lab-wan under adapters: what is trained where a second video model is to follow tags instead of captions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from peft import LoraConfig, LoraModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from ..scene import Scene
from ..tags import tags
from .timed_training import Batch
from .training_data import sample_captions, tokenize
from .transformer_training import Denoiser

TEXTS_PER_CLIP = 4
OTHER_SHARE = 0.2
"""Share of a batch that has the first style's caption of another scene (ours). lab-wan knows these captions, and would go on to
follow them: so it learns that they say nothing, as a model that was never trained on them would have it."""


def _adapted(model: nn.Module, rank: int) -> LoraModel:
    """Puts adapters on all linear layers of a model and freezes all else."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=names)
    return LoraModel(model, {"default": config}, "default")  # type: ignore[no-untyped-call]


class AdaptedDenoiser(Denoiser):
    """Transformer and text encoder with a LoRA on each linear layer, and the embeddings of the tokens, which tags spell anew."""

    def __init__(
        self, transformer: WanTransformer3DModel, text_encoder: UMT5EncoderModel, rank: int, seed: int = 0
    ) -> None:
        """Puts the adapters on both parts.

        Args:
            transformer: lab-wan's, in float32.
            text_encoder: lab-wan's, in float32.
            rank: Rank of the adapters; their scale is 1.
            seed: Seed of the training.
        """
        super().__init__(transformer, text_encoder, seed)
        # In a tuple, so that no weight has two names in the saves.
        self._tuners = (_adapted(transformer, rank), _adapted(text_encoder, rank))
        text_encoder.get_input_embeddings().weight.requires_grad_(True)

    @property
    def trained(self) -> int:
        """Number of weights that are trained."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def merge(self) -> None:
        """Adds the adapters to the weights, for good."""
        for tuner in self._tuners:
            tuner.merge_and_unload()  # type: ignore[no-untyped-call]


def sample_tags(scenes: list[Scene], seed: int) -> list[str]:
    """The tags of each scene."""
    rng = np.random.default_rng(seed)
    return [tags(scene, rng) for scene in scenes]


def style_batches(
    latents: Tensor, scenes: list[Scene], tokenizer: PreTrainedTokenizerFast, size: int, seed: int
) -> Callable[[], Batch]:
    """What draws batches: latents with the tags of their scenes, and some with the first style's caption of another scene.

    Args:
        latents: Normalized latents of the scenes, `(scenes, channels, 5, 16, 16)`, on the training device.
        scenes: The scenes.
        tokenizer: lab-wan's.
        size: Clips of a batch.
        seed: Seed of the wordings.
    """
    device = latents.device
    own = torch.stack(
        [tokenize(tokenizer, sample_tags(scenes, seed + i), device) for i in range(TEXTS_PER_CLIP)], dim=1
    )
    first = tokenize(tokenizer, sample_captions(scenes, seed), device)

    def draw() -> Batch:
        chosen = torch.randint(len(scenes), (size,), device=device)
        tokens = own[chosen, torch.randint(TEXTS_PER_CLIP, (size,), device=device)]
        others = first[torch.randint(len(scenes), (size,), device=device)]
        other = torch.rand(size, 1, device=device) < OTHER_SHARE
        return latents[chosen].float(), torch.where(other, others, tokens)

    return draw
