from __future__ import annotations

import pytest
import torch
from diffusers import WanPipeline

from rapo_lightning.lab.timed_training import TimedTraining
from rapo_lightning.lab.training_data import ClipPool, sample_captions, sample_scenes, tokenize
from rapo_lightning.lab.transformer_training import Denoiser, flow_matching_loss, sample_sigmas
from rapo_lightning.lab.vae_training import decode, encode, stage_at, vae_loss, whole_clip
from rapo_lightning.lab.video_model import (
    build_text_encoder,
    build_tokenizer,
    build_transformer,
    build_vae,
    save_pipeline,
)
from tests.helpers import ROOT


def test_whole_clip_pass_equals_the_librarys_streaming() -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    clips = torch.rand(1, 3, 9, 64, 64) * 2 - 1
    with torch.no_grad():
        streamed = vae.encode(clips).latent_dist.mean
        back = vae.decode(streamed).sample
        whole_clip(vae)
        torch.testing.assert_close(encode(vae, clips)[0], streamed, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(decode(vae, streamed).clamp(-1, 1), back, atol=1e-5, rtol=1e-4)


def test_losses_reach_every_parameter(tmp_path) -> None:
    torch.manual_seed(0)
    scenes = sample_scenes(4, 0)
    captions = sample_captions(scenes, 0)
    tokenizer = build_tokenizer(captions)
    pool = ClipPool(scenes, 0, torch.device("cpu"))
    vae = whole_clip(build_vae())
    vae_loss(vae, *pool.batch(torch.arange(2), 5)).total.backward()
    assert all(p.grad is not None for p in vae.parameters())
    denoiser = Denoiser(build_transformer(), build_text_encoder(len(tokenizer)))
    latents = torch.randn(4, 12, 2, 8, 8)
    flow_matching_loss(denoiser, latents, tokenize(tokenizer, captions, torch.device("cpu"))).backward()
    assert all(p.grad is not None for p in denoiser.parameters())
    save_pipeline(tmp_path, build_vae(), denoiser.transformer, denoiser.text_encoder, tokenizer)
    assert WanPipeline.from_pretrained(tmp_path).transformer.config.num_layers == 5


def test_schedule_is_shifted_towards_noise() -> None:
    torch.manual_seed(0)
    sigmas = sample_sigmas(20_000, torch.device("cpu"))
    assert float(sigmas.median()) == pytest.approx(0.75, abs=0.02)
    assert (stage_at(0.0)[0], stage_at(0.3)[0], stage_at(0.99)[0]) == (1, 5, 17)


def test_timed_training_resumes(tmp_path) -> None:
    data = torch.randn(64, 3)
    goal = data @ torch.tensor([1.0, -2.0, 0.5])

    def train(seconds: float) -> TimedTraining:
        model = torch.nn.Linear(3, 1, bias=False)
        training = TimedTraining(model, tmp_path, "t", seconds, lr=0.05, average=0.9, seed=0)
        training.run(lambda share: ((model(data)[:, 0] - goal).square().mean(), ""))
        return training

    first = train(0.2)
    again = train(0.4)
    assert again.step > first.step
    assert again.spent >= 0.4
    assert train(0.4).step == again.step


def test_shipped_model_is_small_and_plain() -> None:
    folder = ROOT / "ckpt/lab/video_model"
    assert sum(path.stat().st_size for path in folder.rglob("*.safetensors")) <= 18e6
    pipeline = WanPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    video = pipeline("a ball", height=64, width=64, num_frames=5, num_inference_steps=1, output_type="np").frames
    assert video.shape == (1, 5, 64, 64, 3)
