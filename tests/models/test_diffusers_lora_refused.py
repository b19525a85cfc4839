"""LoRAs that are refused before anything large is loaded, and how their checkpoints are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LattePipeline, WanPipeline

from rapo_lightning.cli import main
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models import DiffusersVideoModel
from rapo_lightning.recipe import Recipe
from rapo_lightning.running.pool import checkpoint_names
from tests import tiny_loras, tiny_models
from tests.helpers import tiny_recipe
from tests.tiny_loras import CALL, FILE, model


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"weight_name": FILE}, "`lora.checkpoint` must be a text. Got None"),
        ({"checkpoint": "x/y"}, "`lora.weight_name` must be a text. Got None"),
        ({"checkpoint": "x/y", "weight_name": FILE, "strength": 1}, "takes checkpoint, .* scale. Got strength"),
        (
            {"checkpoint": "x/y", "weight_name": FILE, "scale": "half"},
            "`lora.scale` must be a finite number. Got 'half'",
        ),
        (
            {"checkpoint": "x/y", "weight_name": FILE, "scale": float("nan")},
            "`lora.scale` must be a finite number. Got nan",
        ),
        ({"checkpoint": "x/y", "weight_name": FILE, "scale": True}, "`lora.scale` must be a finite number. Got True"),
        (
            {"checkpoint": "x/y", "weight_name": "few.pt"},
            "must be a safetensors file within its checkpoint. Got 'few.pt'",
        ),
        (
            {"checkpoint": "x/y", "weight_name": f"../{FILE}"},
            "must be a safetensors file within its checkpoint. Got '../",
        ),
    ],
)
def test_wrong_fields_are_one_sentence(lora: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DiffusersVideoModel("lab/video_model", lora=lora)


def test_pipelines_without_loras_are_refused() -> None:
    lora = {"checkpoint": "x/y", "weight_name": FILE}
    with pytest.raises(UserError, match="`lora.weight_name` needs a pipeline .* Got LattePipeline"):
        DiffusersVideoModel("lab/video_model", LattePipeline.__name__, lora=lora)
    with pytest.raises(UserError, match="`lora.weight_name_2` needs a pipeline .* Got LTXPipeline"):
        DiffusersVideoModel("lab/video_model", "LTXPipeline", lora={**lora, "weight_name_2": FILE})


def _nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(WanPipeline, "from_pretrained", refuse)


CHANGES: dict[str, tuple[Any, str]] = {
    "of a text model": (
        lambda old: {name.replace("transformer.blocks", "model.layers"): value for name, value in old.items()},
        "Got .*few.safetensors, with none; take one",
    ),
    "of a wider model": (
        lambda old: {name: torch.cat([value] * 2, -1 if "lora_A" in name else 0) for name, value in old.items()},
        "of whose 18 layers 18 are not in it, such as blocks.0.attn1.to_k",
    ),
    "of a deeper model": (
        lambda old: old | {name.replace("blocks.1", "blocks.7"): value for name, value in old.items()},
        "of whose 27 layers 9 are not in it, such as blocks.7.attn1.to_k",
    ),
    "no numbers": (
        lambda old: {name: value * torch.nan if "blocks.1.attn2.to_q" in name else value for name, value in old.items()},
        "`lora` must have finite weights. Got .* with others in blocks.1.attn2.to_q",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_lora_that_does_not_fit_is_refused_before_the_pipeline_loads(
    name: str, wan: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, message = CHANGES[name]
    _nothing_loads(monkeypatch)
    with pytest.raises(UserError, match=message):
        model(wan, tiny_loras.changed_lora(student, tmp_path / "other", FILE, change)).load()


def test_files_that_are_not_there_or_damaged_are_one_sentence(
    wan: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _nothing_loads(monkeypatch)
    with pytest.raises(UserError, match="Got 'many.safetensors' and .*, which has students/few.safetensors; name one"):
        model(wan, student, weight_name="many.safetensors").load()
    with pytest.raises(UserError, match="A checkpoint must be a folder, a hub id"):
        model(wan, Path("runs/nowhere")).load()
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_bytes((student / FILE).read_bytes()[:999])
    with pytest.raises(RunError, match="The LoRA cannot be loaded from .*few.safetensors"):
        model(wan, tmp_path).load()
    with pytest.raises(UserError, match="`lora` needs a pipeline with a `transformer_2`. Got .*, which has none"):
        model(wan, student, weight_name_2=FILE).load()


def test_its_checkpoint_is_fetched_and_checked_with_the_others(
    wan: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = {"checkpoint": "wan2.1-t2v-1.3b", "weight_name": FILE}
    recipe = Recipe(video_model={"class_path": "x.Y", "init_args": {"checkpoint": str(wan), "lora": lora}})
    assert checkpoint_names(recipe) == [str(wan), "wan2.1-t2v-1.3b"]
    fields = {
        "checkpoint": str(wan),
        "call": CALL,
        "lora": {"checkpoint": str(student), "weight_name": "no.safetensors"},
    }
    path = tiny_recipe(tmp_path, tiny_models.qwen(_folder(tmp_path / "llm")), video_model__init_args=fields)
    assert main(["validate", str(path)]) == 2
    assert "has students/few.safetensors; name one that is there" in capsys.readouterr().err
    fields["lora"] = {"checkpoint": str(tmp_path / "nowhere"), "weight_name": FILE}
    path = tiny_recipe(tmp_path, tmp_path / "llm", video_model__init_args=fields)
    assert main(["validate", str(path)]) == 2
    assert "A checkpoint must be a folder" in capsys.readouterr().err


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
