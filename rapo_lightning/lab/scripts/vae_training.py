"""Trains the VAE of lab-wan: on single frames, then on 5-frame and at last on 17-frame clips."""

from __future__ import annotations

import types
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample
from torch import Tensor
from torch.nn import functional

from ..world import NUM_FRAMES
from .timed_training import Batch, TimedModule

STAGES: tuple[tuple[float, int, int], ...] = ((0.2, 1, 96), (0.2, 5, 32), (0.6, NUM_FRAMES, 24))
"""(share of the time, frames per clip, clips per batch); 17 frames from the start did not converge in a trial."""
KL_WEIGHT = 1e-5
BODY_WEIGHT = 15.0
"""Extra weight of pixels that differ from the empty background: bodies are few pixels and all that matters."""
EDGE_WEIGHT = 15.0
"""Extra weight of a pixel per unit of contrast (-1..1) around it: a shape is what its edges are."""


def _whole_clip_resample(self: WanResample, x: Tensor, feat_cache: object = None, feat_idx: object = None) -> Tensor:
    """`WanResample.forward` over a whole clip at once.

    The library streams a clip frame group by frame group through caches. All its convolutions are causal, so one pass
    over the clip gives the same numbers with a fifth of the kernel launches; only the two temporal resampling layers
    behave differently for the first frame, which is kept apart here.
    """
    if self.mode == "upsample3d" and x.shape[2] > 1:
        later = self.time_conv(x[:, :, 1:])
        batch, _, frames, height, width = later.shape
        later = later.reshape(batch, 2, -1, frames, height, width)
        later = torch.stack((later[:, 0], later[:, 1]), 3).reshape(batch, -1, frames * 2, height, width)
        x = torch.cat([x[:, :, :1], later], dim=2)
    batch, _, frames, _, _ = x.shape
    x = self.resample(x.permute(0, 2, 1, 3, 4).flatten(0, 1))
    x = x.unflatten(0, (batch, frames)).permute(0, 2, 1, 3, 4)
    if self.mode == "downsample3d" and frames > 1:
        x = torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)
    return x


def whole_clip(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Lets the encoder and decoder of `vae` take whole clips when called directly, without the streaming caches."""
    for module in vae.modules():
        if isinstance(module, WanResample):
            module.forward = types.MethodType(_whole_clip_resample, module)  # type: ignore[method-assign]
    return vae


def encode(vae: AutoencoderKLWan, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the latents of `clips` (`(batch, 3, frames, 64, 64)` in -1..1)."""
    mean, logvar = vae.quant_conv(vae.encoder(clips)).chunk(2, dim=1)
    return mean, logvar.clamp(-30, 20)


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Clips of latents, not clamped: a clamp would stop the gradient of every pixel that overshoots."""
    clips: Tensor = vae.decoder(vae.post_quant_conv(latents))
    return clips


@dataclass(frozen=True)
class VaeLoss:
    """Loss of one batch and the plain mean squared error in 0..1 pixels, for PSNR."""

    total: Tensor
    mse: Tensor


def _contrast(distance: Tensor) -> Tensor:
    """Largest less smallest value of each pixel's 3 x 3 neighbourhood, same shape: high on both sides of an edge."""
    frames = distance.transpose(1, 2).flatten(0, 1)
    highest = functional.max_pool2d(frames, 3, stride=1, padding=1)
    lowest = -functional.max_pool2d(-frames, 3, stride=1, padding=1)
    return (highest - lowest).unflatten(0, (len(distance), -1)).transpose(1, 2)


def vae_loss(vae: AutoencoderKLWan, clips: Tensor, backgrounds: Tensor) -> VaeLoss:
    """Weighted L1 + L2 reconstruction loss with a KL term.

    Args:
        vae: The VAE, prepared by `whole_clip`.
        clips: `(batch, 3, frames, 64, 64)` in -1..1.
        backgrounds: The empty backgrounds of the clips, `(batch, 3, 1, 64, 64)` in -1..1.
    """
    mean, logvar = encode(vae, clips)
    latents = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
    error = (decode(vae, latents) - clips).float()
    distance = (clips - backgrounds).abs().amax(1, keepdim=True)
    weight = 1 + BODY_WEIGHT * (distance > 0.05) + EDGE_WEIGHT * _contrast(distance)
    reconstruction = (weight * (error**2 + 0.1 * error.abs())).mean()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).float().mean()
    return VaeLoss(reconstruction + KL_WEIGHT * kl, (error.detach() / 2).square().mean())


class VaeTraining(TimedModule):
    """The training of a VAE prepared by `whole_clip`."""

    peak_rate = 2e-3
    average = 0.998

    def __init__(self, vae: AutoencoderKLWan, seed: int) -> None:
        """Takes the VAE and the seed of the training."""
        super().__init__()
        self.vae, self.seed = vae, seed
        self._frames = 0

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of clips and their empty backgrounds, logged as a mean together with the PSNR."""
        loss = vae_loss(self.vae, *batch)
        self._frames = batch[0].shape[2]
        figures = {"loss": loss.total, "psnr": -10 * torch.log10(loss.mse)}
        self.log_dict(figures, on_step=False, on_epoch=True, batch_size=1)
        return loss.total

    def on_train_epoch_end(self) -> None:
        """Logs the length of the clips; a number that is not on the device is logged once, for its copy waits."""
        self.log("frames", float(self._frames))


def stage_at(share: float) -> tuple[int, int]:
    """Frames per clip and clips per batch after `share` (0..1) of the training time."""
    for length, frames, batch in STAGES:
        if share < length:
            return frames, batch
        share -= length
    return STAGES[-1][1:]
