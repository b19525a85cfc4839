"""Trains the diffusion transformer and the text encoder of lab-wan together, by flow matching on cached latents."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import UMT5EncoderModel

from ..world import NUM_FRAMES
from .timed_training import Batch, TimedModule
from .training_data import ClipPool
from .vae_training import encode
from .video_model import FLOW_SHIFT

CAPTION_DROPOUT = 0.1
"""Share of empty captions, for classifier-free guidance."""
TEXT_LENGTHS = (64, 128, 226, 512)
_TEXT_LENGTH_SHARES = (0.5, 0.3, 0.1, 0.1)
"""Zero-padding of the text: Wan does not mask it, so the model must see each length that a pipeline call may use."""


class Denoiser(TimedModule):
    """Transformer and text encoder as one module, for one optimizer and one average."""

    average = 0.9995

    def __init__(self, transformer: WanTransformer3DModel, text_encoder: UMT5EncoderModel, seed: int = 0) -> None:
        """Holds both parts, and the seed of their training."""
        super().__init__()
        self.seed = seed
        self.transformer = transformer
        self.text_encoder = text_encoder

    def forward(self, latents: Tensor, sigmas: Tensor, tokens: Tensor, text_length: int) -> Tensor:
        """Predicts the velocity.

        Args:
            latents: Noised latents, `(batch, channels, 5, 16, 16)`.
            sigmas: Noise shares in 0..1, `(batch,)`.
            tokens: Caption tokens, `(batch, length)`, 0 is padding.
            text_length: Length to which the encoded text is zero-padded.
        """
        mask = tokens.ne(0)
        text = self.text_encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        text = functional.pad(text * mask[..., None], (0, 0, 0, text_length - tokens.shape[1]))
        velocity: Tensor = self.transformer(
            hidden_states=latents, timestep=sigmas * 1000, encoder_hidden_states=text, return_dict=False
        )[0]
        return velocity

    def on_train_start(self) -> None:
        """Compiles the blocks where there is a GPU: they are small, and most of their time goes from kernel to kernel."""
        super().on_train_start()
        if self.device.type == "cuda":
            for block in self.transformer.blocks:
                block.compile()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of normalized latents and caption tokens, logged as a mean."""
        loss = flow_matching_loss(self, *batch)
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=1)
        return loss


@torch.no_grad()
def encode_pool(vae: AutoencoderKLWan, pool: ClipPool, batch_size: int = 128) -> Tensor:
    """Latent means of all clips of a pool, `(count, channels, 5, 16, 16)`, not normalized."""
    device = pool.clips.device
    latents = []
    for indices in torch.arange(len(pool.clips), device=device).split(batch_size):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            latents.append(encode(vae, pool.batch(indices, NUM_FRAMES)[0])[0].float())
    return torch.cat(latents)


def normalized(latents: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Latents with each channel's mean and deviation taken off, bfloat16, of the same shape."""
    return ((latents - mean[:, None, None, None]) / std[:, None, None, None]).to(torch.bfloat16)


def sample_sigmas(count: int, device: torch.device) -> Tensor:
    """Noise shares of the shifted flow-matching schedule, uniform before the shift, as Wan2.1 samples at inference."""
    uniform = torch.rand(count, device=device)
    return FLOW_SHIFT * uniform / (1 + (FLOW_SHIFT - 1) * uniform)


def flow_matching_loss(denoiser: nn.Module, latents: Tensor, tokens: Tensor) -> Tensor:
    """Mean squared error of the velocity `noise - latents` at random noise shares.

    Args:
        denoiser: A `Denoiser`.
        latents: Normalized clean latents, `(batch, channels, 5, 16, 16)`.
        tokens: Caption tokens, `(batch, length)`.
    """
    sigmas = sample_sigmas(len(latents), latents.device)
    noise = torch.randn_like(latents)
    mix = sigmas[:, None, None, None, None]
    dropped = torch.rand(len(tokens), 1, device=tokens.device) < CAPTION_DROPOUT
    # An empty caption is one end-of-text token (id 1), as the tokenizer writes it.
    empty = torch.zeros_like(tokens)
    empty[:, 0] = 1
    tokens = torch.where(dropped, empty, tokens)
    choice = int(torch.multinomial(torch.tensor(_TEXT_LENGTH_SHARES), 1))
    velocity = denoiser((1 - mix) * latents + mix * noise, sigmas, tokens, TEXT_LENGTHS[choice])
    return functional.mse_loss(velocity.float(), noise - latents)
