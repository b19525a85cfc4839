from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import WanPipeline
from lightning.pytorch.callbacks import timer
from torch.optim.swa_utils import AveragedModel

from rapo_lightning.lab.scripts import train_video_model, video_model_card
from rapo_lightning.lab.scripts.timed_training import Batch, Clock, CloseAverage, Draws, TimedModule, train
from rapo_lightning.lab.scripts.training_data import ClipPool, sample_captions, sample_scenes, tokenize
from rapo_lightning.lab.scripts.transformer_training import Denoiser, flow_matching_loss, sample_sigmas
from rapo_lightning.lab.scripts.vae_training import decode, encode, stage_at, vae_loss, whole_clip
from rapo_lightning.lab.scripts.video_model import (
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
    latents = torch.randn(4, 8, 2, 16, 16)
    flow_matching_loss(denoiser, latents, tokenize(tokenizer, captions, torch.device("cpu"))).backward()
    assert all(p.grad is not None for p in denoiser.parameters())
    save_pipeline(tmp_path, build_vae(), denoiser.transformer, denoiser.text_encoder, tokenizer)
    assert WanPipeline.from_pretrained(tmp_path).transformer.config.num_layers == 5


def test_schedule_is_shifted_towards_noise() -> None:
    torch.manual_seed(0)
    sigmas = sample_sigmas(20_000, torch.device("cpu"))
    assert float(sigmas.median()) == pytest.approx(0.75, abs=0.02)
    assert (stage_at(0.0)[0], stage_at(0.3)[0], stage_at(0.99)[0]) == (1, 5, 17)


class Slope(TimedModule):
    peak_rate, average = 0.05, 0.9

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 1, bias=False)

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        loss = (self.linear(batch[0])[:, 0] - batch[1]).square().mean()
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=1)
        return loss


class Killed(Exception):
    pass


@pytest.fixture
def steady(monkeypatch) -> None:
    """Time that passes by the step, two milliseconds each: a busy machine makes no fewer of them."""
    steps: list[int] = []
    monkeypatch.setattr(Slope, "on_train_batch_start", lambda *_: steps.append(1))
    monkeypatch.setattr(timer, "time", SimpleNamespace(monotonic=lambda: len(steps) / 500))


def _train(work: Path, seconds: float, steps: int = 10**9, weights: list[torch.Tensor] | None = None) -> Slope:
    """A training that is killed when it asks for more than `steps` batches."""
    module, data, left = Slope(), torch.randn(64, 3), iter(range(steps))

    def draw() -> Batch:
        if next(left, None) is None:
            raise Killed
        if weights is not None:
            weights.append(module.linear.weight.detach().clone())
        return data, data @ torch.tensor([1.0, -2.0, 0.5])

    train(module, lambda clock: Draws(draw), work, "t", seconds, torch.device("cpu"))
    return module


def _saved(work: Path) -> tuple[int, float]:
    saved = torch.load(work / "t.ckpt", weights_only=True)
    return saved["global_step"], saved["callbacks"]["Clock"]["time_elapsed"]["train"]


def test_timed_training_resumes(tmp_path, steady) -> None:
    _train(tmp_path, 0.5)
    first = _saved(tmp_path)
    module = _train(tmp_path, 1.0)
    again = _saved(tmp_path)
    assert (first, again) == ((250, 0.5), (500, 1.0))
    torch.testing.assert_close(module.linear.weight[0], torch.tensor([1.0, -2.0, 0.5]), atol=0.05, rtol=0)
    # A training that is done draws nothing and gives the same weights.
    done = _train(tmp_path, 1.0, steps=0)
    torch.testing.assert_close(done.linear.weight, module.linear.weight)
    assert _saved(tmp_path) == again
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] == again[0]
    assert all(float(row["seconds"]) > 0 and float(row["loss"]) >= 0 for row in rows)


def test_timed_training_goes_on_where_it_was_killed(tmp_path) -> None:
    with pytest.raises(Killed):
        _train(tmp_path, 60.0, steps=50)
    step, spent = _saved(tmp_path)
    assert step == 50
    assert 0 < spent < 60
    saved = torch.load(tmp_path / "t.ckpt", weights_only=True)
    weights, average = saved["current_model_state"]["linear.weight"], saved["state_dict"]["linear.weight"]
    assert not torch.equal(weights, average)
    drawn: list[torch.Tensor] = []
    with pytest.raises(Killed):
        _train(tmp_path, 60.0, steps=30, weights=drawn)
    torch.testing.assert_close(drawn[0], weights)
    assert _saved(tmp_path)[0] == 80
    assert _saved(tmp_path)[1] > spent
    # The time of both starts is spent: with a budget of no more, nothing is drawn.
    _train(tmp_path, _saved(tmp_path)[1], steps=0)


def test_rate_and_average_follow_the_clock() -> None:
    clock = Clock(100.0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    rates = []
    # However long the first step was compiled, the second one is no large one.
    for spent, step in ((1.0, 200), (2.0, 200), (51.0, 200), (100.0, 200), (20.0, 1)):
        clock.load_state_dict({"time_elapsed": {"train": spent}})
        clock.on_train_batch_start(SimpleNamespace(optimizers=[optimizer], global_step=step))
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1.0, 2.0, 0.98, 0.02, 0.036], abs=0.01)
    average = AveragedModel(
        torch.nn.Linear(1, 1, bias=False), multi_avg_fn=CloseAverage(0.5, torch.device("cpu"))._kwargs["multi_avg_fn"]
    )
    for value in (1.0, 2.0, 3.0):
        model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(model.weight, value)
        average.update_parameters(model)
    second = 1.0 * 2 / 11 + 2.0 * 9 / 11
    assert float(average.module.weight) == pytest.approx(second * 3 / 12 + 3.0 * 9 / 12)


def _spent(work: Path, name: str) -> float:
    saved = torch.load(work / f"{name}.ckpt", weights_only=True)
    return float(saved["callbacks"]["Clock"]["time_elapsed"]["train"])


def test_a_killed_training_of_the_model_goes_on_and_writes_it(tmp_path, monkeypatch) -> None:
    work, out = tmp_path / "work", tmp_path / "out"

    def run(denoiser_seconds: float) -> None:
        seconds = ["--vae-seconds", "1", "--denoiser-seconds", str(denoiser_seconds)]
        sizes = ["--vae-clips", "4", "--clips", "8", "--shrink", "512"]
        train_video_model.main(["--work", str(work), "--out", str(out), *seconds, *sizes])

    def killed(self: Denoiser, batch: Batch, index: int) -> torch.Tensor:
        if index == 2:
            raise Killed
        return step(self, batch, index)

    grid = video_model_card.sample_grid
    monkeypatch.setattr(video_model_card, "sample_grid", lambda folder: grid(folder, count=1))
    step = Denoiser.training_step
    monkeypatch.setattr(Denoiser, "training_step", killed)
    with pytest.raises(Killed):
        run(60.0)
    monkeypatch.setattr(Denoiser, "training_step", step)
    spent = {name: _spent(work, name) for name in ("vae", "denoiser")}
    run(spent["denoiser"] + 0.5)
    assert _spent(work, "vae") == spent["vae"]
    assert spent["denoiser"] + 0.5 <= _spent(work, "denoiser") < 50
    pipeline = WanPipeline.from_pretrained(out)
    for trained, build in ((pipeline.transformer, build_transformer), (pipeline.vae, build_vae)):
        torch.manual_seed(0)
        weights, start = trained.state_dict(), build().state_dict()
        same = [torch.equal(weights[name], start[name].to(weights[name].dtype)) for name in start]
        assert sum(same) < len(same) / 2
    card = (out / "README.md").read_text()
    steps = list(csv.DictReader((out / "denoiser.csv").open()))[-1]["step"]
    assert f"| transformer and text encoder | {steps} steps, " in card
    assert int(steps) > 2
    assert (out / "samples.png").is_file()


def test_shipped_model_is_small_and_plain() -> None:
    folder = ROOT / "ckpt/lab/video_model"
    assert sum(path.stat().st_size for path in folder.rglob("*.safetensors")) <= 18e6
    pipeline = WanPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    video = pipeline("a ball", height=64, width=64, num_frames=5, num_inference_steps=1, output_type="np").frames
    assert video.shape == (1, 5, 64, 64, 3)


def test_a_step_without_numbers_changes_nothing() -> None:
    module = TimedModule()
    module.first, module.second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    for gradient in (float("nan"), float("inf"), 1.0):
        module.first.grad, module.second.grad = torch.ones(2), torch.tensor([1.0, gradient])
        module.on_before_optimizer_step(optimizer)
        optimizer.step()
    assert module.skipped == 2
    assert not any(parameter.any() for parameter in module.parameters())
