"""The same videos faster, and other videos where a cache is asked for; on tiny copies, on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rapo_lightning.errors import UserError
from rapo_lightning.models import DiffusersVideoModel, ModelPool, prompt_cache
from rapo_lightning.models.diffusers_speed import compile_blocks, set_attention
from rapo_lightning.models.phases import Moment, PhaseMeter, observed_by, phase
from rapo_lightning.models.placement import HostCopy
from rapo_lightning.recipe.identity import component_identity
from tests import tiny_models, tiny_pipelines

CALL = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 12, "max_sequence_length": 64}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def plain(wan: Path) -> np.ndarray:
    return model(wan).generate(["a red ball"], [1])[0]


def model(wan: Path, **arguments: Any) -> DiffusersVideoModel:
    return DiffusersVideoModel(str(wan), **{"call": CALL, "dtype": "float32", **arguments})


def test_compiled_blocks_make_the_same_video(wan: Path, plain: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda forward, **options: seen.append((forward, options)) or forward)
    compiled = model(wan, compile=True)
    np.testing.assert_array_equal(compiled.generate(["a red ball"], [1])[0], plain)
    assert [options for _, options in seen] == [{"dynamic": False}] * 2


@pytest.mark.slow
def test_one_compiled_graph_serves_all_blocks(wan: Path, plain: np.ndarray) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found = model(wan, compile=True).generate(["a red ball"], [1])[0]
    assert np.abs(found.astype(int) - plain).max() <= 1
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("name", ["CogVideoXPipeline", "LattePipeline"])
def test_blocks_are_found_where_diffusers_names_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
    transformer = tiny_pipelines.ALL[name]()[0].transformer
    assert compile_blocks(transformer) == (1 if name == "CogVideoXPipeline" else 2)


def test_each_text_is_read_once(wan: Path) -> None:
    made = model(wan, call={**CALL, "num_inference_steps": 1, "negative_prompt": "grey"}, batch_size=2)
    made.residency = "swap"
    made.load()
    read: list[int] = []
    made._pipeline.text_encoder.register_forward_hook(lambda _, given, __: read.append(len(given[0])))
    made.prepare(["a", "b", "c"])
    assert read == [2, 2]
    first = made.generate(["a", "b", "c"], [1, 2, 3])
    assert len(read) == 2
    np.testing.assert_array_equal(made.generate(["c"], [3])[0], first[2])
    made.generate(["d"], [1])
    assert len(read) == 3


def test_texts_that_were_not_used_yet_are_kept(wan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_cache, "_KEPT", 2)
    made = model(wan, call={**CALL, "num_inference_steps": 1}, batch_size=2)
    made.residency = "swap"
    made.load()
    read: list[int] = []
    made._pipeline.text_encoder.register_forward_hook(lambda _, given, __: read.append(len(given[0])))
    made.prepare([*"abcdefg"])
    made.generate([*"abcdefg"], [1] * 7)
    assert len(read) == 4
    assert made._texts is not None
    assert made._texts.missing([*"abcdefg"]) == [*"abcdef"]


@pytest.mark.parametrize("name", ["CogVideoXPipeline", "LTXPipeline", "MochiPipeline", "HunyuanVideoPipeline"])
def test_prompts_read_apart_make_the_pipelines_own_video(name: str, tmp_path: Path) -> None:
    pipeline, call = tiny_pipelines.ALL[name]()
    pipeline.save_pretrained(tmp_path)
    call = {**call, "negative_prompt": "grey", **({"true_cfg_scale": 3.0} if "Hunyuan" in name else {})}
    made = DiffusersVideoModel(str(tmp_path), name, call, dtype="float32")
    (video,) = made.generate(["a ball"], [1])
    assert made._texts is not None
    made._texts = None
    np.testing.assert_array_equal(made.generate(["a ball"], [1])[0], video)


@pytest.mark.parametrize("policy", ["swap", "offload"])
def test_policies_make_the_same_video(policy: Any, wan: Path, plain: np.ndarray) -> None:
    made = model(wan)
    pool = ModelPool(made, policy=policy, device=CPU)
    np.testing.assert_array_equal(pool.video.generate(["a red ball"], [1])[0], plain)
    assert made.residency == policy


def test_swap_has_the_text_encoder_there_for_reading_alone(wan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where: dict[str, str] = {}
    moved = lambda copy, device: where.update({type(copy.module).__name__: device.type})  # noqa: E731
    monkeypatch.setattr(HostCopy, "to", moved)
    made = model(wan)
    made.residency = "swap"
    made.load()
    placement, pipeline = made._placement, made._pipeline
    assert placement is not None
    text_encoder = pipeline.text_encoder
    made.to(torch.device("cuda"))
    assert where == {}
    with placement.reading():
        assert where == {"UMT5EncoderModel": "cuda"}
    with placement.making():
        assert pipeline.text_encoder is None
        assert where == {"UMT5EncoderModel": "cpu", "WanTransformer3DModel": "cuda", "AutoencoderKLWan": "cuda"}
    assert pipeline.text_encoder is text_encoder
    made.to(CPU)
    assert set(where.values()) == {"cpu"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_host_copy_keeps_tied_weights_tied() -> None:
    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    second.weight = first.weight
    both, kept = torch.nn.Sequential(first, second), first.weight.data.clone()
    copy = HostCopy(both)
    for _ in range(2):
        copy.to(torch.device("cuda"))
        assert first.weight.is_cuda
        assert second.weight is first.weight
        copy.to(CPU)
        assert first.weight.is_pinned()
        assert torch.equal(first.weight, kept)


def test_phases_are_told_in_order(wan: Path) -> None:
    told: list[str] = []

    class Notes:
        synchronize = False

        def begin(self, phase: str, _: Moment) -> None:
            told.append(phase)

        def end(self, phase: str, _: Moment) -> None:
            told.append(f"/{phase}")

    with observed_by(Notes()):
        ModelPool(model(wan), device=CPU).video.generate(["a red ball"], [1])
    assert told == ["load", "/load", "encode", "/encode", "denoise", "/denoise", "decode", "/decode"]


def test_a_phase_is_measured_without_those_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    meter = PhaseMeter()
    with observed_by(meter), phase("judge"):
        now[0] = 1.0
        with phase("load"):
            now[0] = 5.0
        now[0] = 5.5
    assert meter.seconds == {"judge": 1.5, "load": 4.0}


def test_memory_of_a_phase_is_counted_above_what_was_there() -> None:
    meter = PhaseMeter()
    meter.begin("judge", Moment(0.0, peak=50, there=10))
    meter.begin("load", Moment(1.0, peak=12, there=10))
    meter.end("load", Moment(2.0, peak=40, there=40))
    meter.end("judge", Moment(3.0, peak=47, there=41))
    assert meter.peaks == {"judge": 47, "load": 40}
    assert meter.beside == {"judge": 7, "load": 30}


CACHES = [
    {"kind": "first_block", "threshold": 10.0},
    {"kind": "mag", "mag_ratios": [1.0] * 12, "num_inference_steps": 12},
]


@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: str(cache["kind"]))
def test_a_cache_leaves_blocks_out_and_is_no_layout(cache: dict[str, Any], wan: Path, plain: np.ndarray) -> None:
    cached = model(wan, cache=cache)
    first = cached.generate(["a red ball"], [1])[0]
    assert np.abs(first.astype(int) - plain).max() > 1
    # A video begins with an empty cache.
    cached.generate(["a dog"], [2])
    np.testing.assert_array_equal(cached.generate(["a red ball"], [1])[0], first)

    def identity(**more: Any) -> Any:
        return component_identity({"class_path": "x", "init_args": {"checkpoint": str(wan), **more}})

    assert identity(cache=cache) != identity()
    assert identity(compile=True, attention_backend="cudnn") == identity()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cache": {"kind": "warm"}}, "`cache.kind` must be one of first_block, .* Got 'warm'"),
        ({"cache": {"kind": "first_block", "treshold": 0.1}}, "takes threshold. Got treshold"),
        ({"cache": {"kind": "first_block"}, "batch_size": 2}, "a video must depend on no other. Got `batch_size: 2`"),
        ({"cache": {"kind": "mag"}}, "`cache` must suit MagCacheConfig"),
        ({"attention_backend": "flash3"}, "needs the package 'flash_attn_interface'"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DiffusersVideoModel("lab/video_model", **arguments)


def test_a_cache_that_finds_no_block_is_refused(wan: Path) -> None:
    with pytest.raises(UserError, match="Got WanTransformer3DModel, of which TaylorSeerCacheConfig finds none"):
        model(wan, cache={"kind": "taylorseer"}).load()


def test_attention_is_left_alone_where_there_is_no_hopper_card(wan: Path) -> None:
    transformer = tiny_models.wan_transformer()
    assert set_attention(transformer, "auto", CPU, torch.bfloat16) == ""
    with pytest.raises(UserError, match="`attention_backend: cudnn` needs a CUDA device .* Got cpu and bfloat16"):
        set_attention(transformer, "cudnn", CPU, torch.bfloat16)
