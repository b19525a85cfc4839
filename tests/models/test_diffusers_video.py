from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rapo_lightning.checkpoints import identity as checkpoint_identity
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models import DiffusersVideoModel, SentenceEmbedder
from rapo_lightning.models.diffusers_video import to_uint8
from rapo_lightning.models.prompt_cache import filled_size
from rapo_lightning.recipe.identity import component_identity
from rapo_lightning.verifiers.usable import NO_NUMBERS, unreadable
from tests import tiny_models, tiny_pipelines

CALL = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2}
LAB = {**CALL, "height": 64, "width": 64, "num_inference_steps": 1, "guidance_scale": 3.0, "max_sequence_length": 64}


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", tiny_pipelines.ALL)
def test_other_pipelines_run_with_their_default_types(name: str, tmp_path: Path) -> None:
    pipeline, call = tiny_pipelines.ALL[name]()
    pipeline.save_pretrained(tmp_path / "model")
    for options in ({}, {"dtype": "float32"}):
        model = DiffusersVideoModel(str(tmp_path / "model"), pipeline=name, call=call, batch_size=2, **options)
        videos = model.generate(["a ball", "a dog", "a cat"], [1, 2, 3])
        assert len(videos) == 3
        assert all(video.dtype == np.uint8 and video.std() > 1 for video in videos)
        assert model._pipeline.vae.dtype == model._pipeline.transformer.dtype


def test_wan_keeps_its_vae_in_float32_as_stored(wan: Path) -> None:
    model = DiffusersVideoModel(str(wan), call=CALL, batch_size=2)
    (video,) = model.generate(["a red ball"], [1])
    assert video.shape == (5, 32, 32, 3)
    assert model._pipeline.transformer.dtype == model._pipeline.text_encoder.dtype == torch.bfloat16
    stored, held = load_file(wan / "vae/diffusion_pytorch_model.safetensors"), model._pipeline.vae.state_dict()
    assert all(torch.equal(stored[key], held[key]) for key in stored)
    lower = DiffusersVideoModel(str(wan), call=CALL, vae_dtype="bfloat16")
    lower.load()
    assert lower._pipeline.vae.dtype == torch.bfloat16


def test_short_batches_are_filled_to_few_sizes() -> None:
    assert [filled_size(count, 128) for count in (1, 3, 8, 9, 64, 65, 128)] == [8, 8, 8, 16, 64, 128, 128]
    assert {filled_size(count, 6) for count in range(1, 7)} == {6}
    assert [filled_size(count, 20) for count in (7, 16, 17)] == [8, 16, 20]
    sizes: list[int] = []

    def pipeline(prompt: list[str], **_: Any) -> SimpleNamespace:
        sizes.append(len(prompt))
        return SimpleNamespace(frames=torch.zeros(len(prompt), 1, 3, 2, 2))

    model = DiffusersVideoModel("lab/video_model", call=LAB, dtype="float32", batch_size=128)
    model._pipeline = pipeline
    assert len(model.generate(["a", "b", "c"], [1, 2, 3])) == 3
    assert sizes == [8]


def test_video_does_not_depend_on_how_many_others_there_are() -> None:
    prompts, seeds = ["a red ball", "a blue square", "a ball", "b", "c"], [5, 6, 7, 8, 9]
    model = DiffusersVideoModel("lab/video_model", call=LAB, dtype="float32", batch_size=4)
    whole = model.generate(prompts, seeds)
    for begin, end in ((1, 2), (2, 5)):
        for video, expected in zip(model.generate(prompts[begin:end], seeds[begin:end]), whole[begin:end], strict=True):
            np.testing.assert_array_equal(video, expected)
    # Another size, as documented: nothing but rounding.
    model.batch_size = 1
    for video, expected in zip(model.generate(prompts, seeds), whole, strict=True):
        difference = np.abs(video.astype(int) - expected)
        assert difference.max() <= 1
        assert difference.mean() < 1e-3


def test_pixels_that_are_no_numbers_become_no_black() -> None:
    video = torch.full((2, 3, 4, 5), 0.5)
    assert (to_uint8(video) == 128).all()
    assert to_uint8(video).shape == (2, 4, 5, 3)
    for wrong in (torch.nan, torch.inf):
        video[1, 0, 0, 0] = wrong
        np.testing.assert_array_equal(to_uint8(video), video.permute(0, 2, 3, 1).numpy())


def test_overflow_in_the_model_is_returned_as_it_came(wan: Path) -> None:
    model = DiffusersVideoModel(str(wan), call=CALL, batch_size=2)
    model.load()
    model._pipeline.transformer.proj_out.bias.data.fill_(torch.nan)
    (video,) = model.generate(["a ball"], [1])
    assert video.dtype == np.float32
    assert np.isnan(video).all()
    assert unreadable(video) == NO_NUMBERS


def test_identity_has_what_changes_a_video_and_nothing_else(wan: Path) -> None:
    def identity(**arguments: Any) -> dict[str, Any]:
        fields = {"checkpoint": str(wan), "call": CALL, **arguments}
        return component_identity({"class_path": "rapo_lightning.models.DiffusersVideoModel", "init_args": fields})

    first = identity(batch_size=1)
    assert first == identity(call=dict(CALL), batch_size=64)
    changes: list[dict[str, Any]] = [
        {"checkpoint": "lab/video_model"}, {"call": {}}, {"fps": 8.0}, {"dtype": "float32"}, {"vae_dtype": "bfloat16"},
        {"scheduler": {"flow_shift": 5.0}}, {"pipeline": "WanVideoToVideoPipeline"}, {"vae_tiling": True},
    ]  # fmt: skip
    assert all(identity(**change) != first for change in changes)


def test_scheduler_replaces_entries_of_the_checkpoints_own(wan: Path) -> None:
    model = DiffusersVideoModel(
        str(wan), call=CALL, scheduler={"class_name": "UniPCMultistepScheduler", "flow_shift": 5.0}
    )
    model.load()
    assert model._pipeline.scheduler.config.flow_shift == 5.0
    assert model._pipeline.scheduler.config.prediction_type == "flow_prediction"
    euler = DiffusersVideoModel(str(wan), call=CALL, scheduler={"class_name": "FlowMatchEulerDiscreteScheduler"})
    assert not np.array_equal(euler.generate(["a ball"], [1])[0], model.generate(["a ball"], [1])[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pipeline": "NoPipeline"}, "`pipeline` must be a DiffusionPipeline .* Got 'NoPipeline'"),
        ({"pipeline": "AutoencoderKLWan"}, "`pipeline` must be a DiffusionPipeline"),
        ({"scheduler": {"class_name": "WanPipeline"}}, "must be a SchedulerMixin .* Got 'WanPipeline'"),
        ({"scheduler": {"class_name": "UniPCMultistepScheduler", "flow_shfit": 3}}, "Got flow_shfit"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DiffusersVideoModel("lab/video_model", **arguments)


def test_unknown_entry_of_the_checkpoints_scheduler_is_named(wan: Path) -> None:
    with pytest.raises(UserError, match="UniPCMultistepScheduler takes.* Got shift"):
        DiffusersVideoModel(str(wan), scheduler={"shift": 3.0}).load()


def test_code_of_a_checkpoint_is_never_run(wan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def stop(*_: Any, **options: Any) -> None:
        seen.append(options)
        raise OSError("stop")

    monkeypatch.setattr("diffusers.WanPipeline.from_pretrained", stop)
    monkeypatch.setattr("sentence_transformers.SentenceTransformer.__init__", stop)
    for model in (DiffusersVideoModel(str(wan)), SentenceEmbedder(str(wan))):
        with pytest.raises(RunError, match="stop"):
            model.load()
        assert "trust_remote_code" not in inspect.signature(type(model)).parameters
    assert [options["trust_remote_code"] for options in seen] == [False, False]


@pytest.mark.parametrize("part", ["vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors",
                                  "tokenizer/tokenizer.json", "transformer/config.json"])  # fmt: skip
def test_cut_off_file_is_one_sentence_with_the_folder(part: str, tmp_path: Path) -> None:
    folder = tiny_models.wan(tmp_path / "cut")
    content = (folder / part).read_bytes()
    (folder / part).write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=f"The video model cannot be loaded from {folder}") as caught:
        DiffusersVideoModel(str(folder)).load()
    assert "\n" not in str(caught.value)


def test_embedder_opens_the_published_layout_and_names_a_damaged_one(tmp_path: Path) -> None:
    folder = tiny_models.minilm(tmp_path / "minilm")
    model = SentenceEmbedder(str(folder))
    vectors = model.encode(["a dog", "a cat"])
    np.testing.assert_allclose((vectors**2).sum(1), 1, atol=1e-5)
    first = checkpoint_identity(str(folder))
    (folder / "model.safetensors").write_bytes(b"short")
    assert checkpoint_identity(str(folder)) != first
    with pytest.raises(RunError, match=f"The embedder cannot be loaded from {folder}"):
        SentenceEmbedder(str(folder)).load()
