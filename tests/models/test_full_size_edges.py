"""Edges of full-size models: other users' classes, little memory, cards that are left alone, damaged folders."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rapo_lightning.checkpoints.weights import missing_weights, weight_values
from rapo_lightning.data.prompts import Prompt
from rapo_lightning.errors import UserError
from rapo_lightning.models import DiffusersVideoModel
from rapo_lightning.models.diffusers_speed import set_attention
from rapo_lightning.models.drafts import DraftVideoModel
from rapo_lightning.models.pipeline_folder import check_pipeline_folder
from rapo_lightning.running.memory_check import cards
from rapo_lightning.stage2.screening import Screening, Take


class Other:
    """A user's video model with what drafts need, and no more."""

    name, fps, batch_size = "other", 8.0, 1
    call = {"steps": 4}

    def generate_by(self, prompts: Any, seeds: Any, call: dict[str, Any]) -> list[Any]:
        return [call for _ in prompts]


def test_drafts_need_no_more_than_a_call_and_generate_by() -> None:
    draft = DraftVideoModel(Other(), {"steps": 1})  # type: ignore[arg-type]
    draft.prepare(["a ball"])
    assert draft.shortcuts == "draft steps=1"
    assert draft.generate(["a ball"], [0]) == [{"steps": 1}]


def test_a_draft_with_another_negative_prompt_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"must leave what the text encoder reads as it is.* Got negative_prompt"):
        DraftVideoModel(Other(), {"negative_prompt": "grey"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            {"num_inference_step": 4},
            r"WanPipeline takes\. Got 'num_inference_step'; did you mean num_inference_steps\?",
        ),
        ({"zzz": 1}, r"Got 'zzz'; take some of .*height"),
        ({"generator": 1}, r"Got 'generator'; leave it out"),
    ],
)
def test_what_a_pipeline_does_not_take_is_refused_before_it_loads(call: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=f"`call` must .*{told}"):
        DiffusersVideoModel("lab/video_model", call=call)
    with pytest.raises(UserError, match=f"`stage2.draft.call` must .*{told}"):
        DraftVideoModel(DiffusersVideoModel("lab/video_model"), call)


def test_texts_that_do_not_fit_are_read_in_the_halved_batch() -> None:
    sizes: list[int] = []

    class Texts:
        def missing(self, prompts: list[str]) -> list[str]:
            return prompts

        def encode(self, texts: list[str], device: Any, batch_size: int) -> None:
            sizes.append(batch_size)
            raise torch.OutOfMemoryError("CUDA out of memory.")

    made: Any = DiffusersVideoModel("lab/video_model", dtype="float32", batch_size=4)
    made._pipeline, made._texts, made.residency = object(), Texts(), "swap"
    made._placement = SimpleNamespace(reading=threading.Lock, device=torch.device("cpu"))
    made.prepare(["a", "b"])
    made.batch_size = 2
    made.prepare(["a", "b"])
    assert sizes == [4, 2]


def test_flow_that_is_not_begun_is_left_when_a_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = [], threading.Event()

    class Slow:
        def __init__(self, *_: Any) -> None: ...

        @property
        def flow(self) -> list[Any]:
            begun.append(1)
            go_on.wait(30)
            return []

        motion = None

    monkeypatch.setattr("rapo_lightning.stage2.screening.View", Slow)
    videos: Any = SimpleNamespace(flush=lambda: None)
    models: Any = SimpleNamespace(fps=8.0)
    screening = Screening(models, [], "x", None, videos, 0.1, False)  # type: ignore[arg-type]
    take = Take(Prompt("a ball"), "a ball", 0)

    def interrupted(*_: Any) -> Any:
        for number in range(6):
            screening._watch(str(number), take, np.zeros((2, 8, 8, 3), np.uint8))
        raise KeyboardInterrupt

    monkeypatch.setattr(screening, "_frames", interrupted)
    with pytest.raises(KeyboardInterrupt):
        screening.run([])
    go_on.set()
    assert screening._watchers is not None
    screening._watchers.shutdown(wait=True)
    assert len(begun) <= 2


@pytest.mark.parametrize(("devices", "names"), [([1], "b"), (1, "a"), ("auto", "ab"), (-1, "ab")])
def test_cards_are_those_that_the_trainer_uses(devices: Any, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = lambda number: SimpleNamespace(name="ab"[number], total_memory=1, major=9)  # noqa: E731
    monkeypatch.setattr(torch.cuda, "get_device_properties", found)
    recipe: Any = SimpleNamespace(trainer={"devices": devices})
    assert "".join(name for name, _, _ in cards(recipe)) == names


def test_an_index_that_is_no_index_is_told(tmp_path: Path) -> None:
    for content in ([], {"weight_map": []}, {"weight_map": 3}):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(content))
        assert missing_weights(tmp_path) == ["a readable index"]
        assert weight_values(tmp_path) is None


def test_a_folder_may_say_itself_which_pipeline_it_is(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    check_pipeline_folder(tmp_path, "DiffusionPipeline")
    with pytest.raises(UserError, match="must hold a LTXPipeline"):
        check_pipeline_folder(tmp_path, "LTXPipeline")


def test_auto_takes_cudnn_for_wan_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    taken: list[str] = []
    for name in ("WanTransformer3DModel", "LTXVideoTransformer3DModel"):
        model = type(name, (), {"set_attention_backend": lambda self, backend: taken.append(backend)})()
        set_attention(model, "auto", torch.device("cuda"), torch.bfloat16)
    assert taken == ["_native_cudnn"]
