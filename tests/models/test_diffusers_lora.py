"""LoRAs of a video model: added to its weights, counted by their contents, refused before anything large is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import LattePipeline, WanPipeline, WanTransformer3DModel
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models import DiffusersVideoModel
from rapo_lightning.models.diffusers_lora import VideoLora, add_lora
from rapo_lightning.recipe import Recipe
from rapo_lightning.recipe.identity import component_identity
from rapo_lightning.running.pool import checkpoint_names
from tests import tiny_models
from tests.helpers import tiny_recipe

CALL = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2, "max_sequence_length": 64}
FILE = "students/few.safetensors"


def save_lora(transformer: WanTransformer3DModel, folder: Path, name: str = FILE, seed: int = 1) -> Path:
    """A random LoRA of rank 4 on attention and MLP, as training scripts of diffusers save it."""
    torch.manual_seed(seed)
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0", "proj"]))
    for key, value in transformer.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(value, std=0.5)
    layers = get_peft_model_state_dict(transformer)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    WanPipeline.save_lora_weights((folder / name).parent, layers, weight_name=Path(name).name)
    return folder


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lora(tiny_models.wan_transformer(), tmp_path_factory.mktemp("lora"))


def model(wan: Path, student: Path | None = None, **fields: Any) -> DiffusersVideoModel:
    lora = {"checkpoint": str(student), "weight_name": FILE, **fields} if student else None
    return DiffusersVideoModel(str(wan), call=CALL, dtype="float32", lora=lora)


def video(made: DiffusersVideoModel) -> np.ndarray:
    return made.generate(["a red ball"], [1])[0]


def test_videos_are_those_of_weights_with_the_lora_added(wan: Path, student: Path) -> None:
    plain, made = model(wan), model(wan, student)
    assert np.abs(video(made).astype(int) - video(plain)).max() > 8
    np.testing.assert_array_equal(video(model(wan, student, scale=0)), video(plain))
    matrices = load_file(student / FILE)
    layer = "blocks.1.attn2.to_k"
    added = matrices[f"transformer.{layer}.lora_B.weight"] @ matrices[f"transformer.{layer}.lora_A.weight"]
    found = made._pipeline.transformer.get_submodule(layer)
    assert type(found) is torch.nn.Linear
    torch.testing.assert_close(found.weight, plain._pipeline.transformer.get_submodule(layer).weight + added)


@pytest.mark.parametrize("policy", ["swap", "offload"])
def test_residency_compilation_and_caches_find_plain_layers(policy: Any, wan: Path, student: Path) -> None:
    made = model(wan, student)
    made.residency = policy
    made.to(torch.device("cpu"))
    np.testing.assert_array_equal(video(made), video(model(wan, student)))
    whole = model(wan)
    whole.load()
    names = [name for name, _ in whole._pipeline.transformer.named_parameters()]
    assert [name for name, _ in made._pipeline.transformer.named_parameters()] == names


def test_half_of_a_lora_in_bfloat16_stays_in_bfloat16(wan: Path, student: Path) -> None:
    lora = {"checkpoint": str(student), "weight_name": FILE, "scale": 0.5}
    made = DiffusersVideoModel(str(wan), call=CALL, lora=lora)
    assert video(made).shape == (5, 32, 32, 3)
    assert made._pipeline.transformer.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16


def test_both_transformers_have_their_own_file(tmp_path: Path) -> None:
    wan22 = tiny_models.wan22(tmp_path / "wan22")
    low = save_lora(tiny_models.wan_transformer(), tmp_path / "low", "low.safetensors", seed=2)
    save_lora(tiny_models.wan_transformer(), low, "high.safetensors", seed=3)
    pipeline, before = (WanPipeline.from_pretrained(wan22) for _ in range(2))
    add_lora(VideoLora(str(low), "high.safetensors", "low.safetensors", 0.5), pipeline)
    for part, name in (("transformer", "high"), ("transformer_2", "low")):
        matrices = load_file(low / f"{name}.safetensors")
        layer = "blocks.0.attn1.to_q"
        added = matrices[f"transformer.{layer}.lora_B.weight"] @ matrices[f"transformer.{layer}.lora_A.weight"]
        weight = getattr(before, part).get_submodule(layer).weight
        torch.testing.assert_close(getattr(pipeline, part).get_submodule(layer).weight, weight + 0.5 * added)
    fields = {"checkpoint": str(low), "weight_name": "high.safetensors", "weight_name_2": "low.safetensors"}
    made = DiffusersVideoModel(str(wan22), call=CALL, dtype="float32", lora=fields)
    assert video(made).shape == (5, 32, 32, 3)


def test_what_is_used_of_it_is_part_of_the_identity(wan: Path, student: Path, tmp_path: Path) -> None:
    def identity(folder: Path, **fields: Any) -> Any:
        lora = {"checkpoint": str(folder), "weight_name": FILE, **fields}
        return component_identity({"class_path": "x", "init_args": {"checkpoint": str(wan), "lora": lora}})

    first = identity(student)
    moved = shutil.copytree(student, tmp_path / "moved")
    save_file({"other": torch.zeros(2)}, moved / "other.safetensors")
    assert identity(moved) == first
    assert identity(student, scale=0.5) != first
    assert (
        first["init_args"]["checkpoint"]
        == component_identity({"class_path": "x", "init_args": {"checkpoint": str(wan)}})["init_args"]["checkpoint"]
    )
    weights = load_file(moved / FILE)
    save_file({name: value + 1 for name, value in weights.items()}, moved / FILE)
    assert identity(moved) != first
    # Another way to write the path is the same file.
    assert (
        identity(moved, weight_name=f"./{FILE}")["init_args"]["lora"]["checkpoint"]
        == (identity(moved)["init_args"]["lora"]["checkpoint"])
    )


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


def _renamed(student: Path, folder: Path, change: Any) -> Path:
    (folder / FILE).parent.mkdir(parents=True)
    save_file({name: value.clone() for name, value in change(load_file(student / FILE)).items()}, folder / FILE)
    return folder


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
        model(wan, _renamed(student, tmp_path / "other", change)).load()


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


def test_names_of_wans_own_code_are_read(wan: Path, student: Path, tmp_path: Path) -> None:
    """As LightX2V's and CausVid's files have them."""
    names = {"attn1": "self_attn", "attn2": "cross_attn", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o",
             "lora_A": "lora_down", "lora_B": "lora_up", "transformer.": "diffusion_model."}  # fmt: skip

    def renamed(old: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = {}
        for name, value in old.items():
            for ours, theirs in names.items():
                name = name.replace(ours, theirs)
            if ".attn" in name or "_attn" in name:
                found[name] = value
        return found

    original = model(wan, _renamed(student, tmp_path / "original", renamed))
    only_attention = lambda old: {name: value for name, value in old.items() if ".attn" in name}  # noqa: E731
    ours = model(wan, _renamed(student, tmp_path / "ours", only_attention))
    np.testing.assert_array_equal(video(original), video(ours))


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


def test_rows_say_so_and_a_killed_run_goes_on(
    wan: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"checkpoint": str(wan), "call": CALL, "dtype": "float32", "fps": 8.0,
              "lora": {"checkpoint": str(student), "weight_name": FILE}}  # fmt: skip
    recipe = tiny_recipe(
        tmp_path, tiny_models.qwen(_folder(tmp_path / "llm")), video_model__init_args=fields, limit=2, stage2__rounds=2,
        stage2__verifiers=[{"class_path": "tests.test_wan21.Contrast"}],
    )  # fmt: skip
    command = ["collect", str(recipe), "--allow_package", "tests", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*command, str(whole)]) == 0
    generate, calls = DiffusersVideoModel.generate_by, [0]

    def dies_once(self: Any, *given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return generate(self, *given)

    monkeypatch.setattr(DiffusersVideoModel, "generate_by", dies_once)
    assert main([*command, str(killed)]) != 0
    assert main([*command, str(killed)]) == 0
    assert calls == [5]
    rows = [read_rows(folder / "trajectories") for folder in (whole, killed)]
    texts = [sorted((row["prompt_id"], row["round"], row["prompt"], row["shortcuts"]) for row in run) for run in rows]
    assert texts[0] == texts[1]
    assert {row["shortcuts"] for row in rows[0]} == {f"lora checkpoint={student}, weight_name={FILE}"}
    # With half of it no video is the same.
    fields["lora"] = {"checkpoint": str(student), "weight_name": FILE, "scale": 0.5}
    loaded = yaml.safe_load(recipe.read_text())
    loaded["video_model"]["init_args"] = fields
    recipe.write_text(yaml.safe_dump(loaded))
    assert main([*command, str(killed)]) == 0
    assert calls == [9]
