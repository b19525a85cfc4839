"""The code of docs/refiner.md, run on tiny copies; and what vLLM needs of a refiner's folder, as far as it can be seen without it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open

from rapo_lightning import Refiner
from rapo_lightning.cli import main
from rapo_lightning.data.ids import derived_seed
from rapo_lightning.data.resources import find
from rapo_lightning.models import ServerLanguageModel
from rapo_lightning.models.refiner_folder import read_refiner
from rapo_lightning.prompting.answers import REASONS, Refined
from tests import tiny_models
from tests.fake_server import Answer, Body, _quick, chat, serving  # noqa: F401
from tests.helpers import ROOT, tiny_recipe
from tests.stage3.runs import write_rounds

TEXT = (ROOT / "docs/refiner.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SHIPPED = find("ckpt/lab/refiner")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    """A folder with the tiny models and a refiner that was trained on them."""
    folder = tmp_path_factory.mktemp("docs")
    recipe = tiny_recipe(folder, language_model)
    run = write_rounds(folder / "run", recipe)
    assert main(["finetune", str(recipe), "--out", str(run), "--allow_package", "tests"]) == 0
    shutil.copytree(language_model, folder / "copy")
    tiny_models.wan(folder / "wan")
    tiny_models.minilm(folder / "minilm")
    return folder


def answered(body: Body, asked: int) -> Answer:
    return chat("A red ball falls to the ground.")


@pytest.mark.usefixtures("_quick")
def test_every_block_runs(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    names: dict[str, Any] = {}
    with serving(answered) as server:
        tiny = {
            "runs/lab/refiner": str(work / "run/refiner"),
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": str(work / "wan"),
            "my-quantized-copy": str(work / "copy"),
            "SentenceEmbedder()": f"SentenceEmbedder({str(work / 'minilm')!r})",
            '"height": 480, "width": 832, "num_frames": 81, "num_inference_steps": 50':
                '"height": 16, "width": 16, "num_frames": 5, "num_inference_steps": 1, "max_sequence_length": 64',
            "http://localhost:8000/v1": server.url,
        }  # fmt: skip
        for block in BLOCKS:
            for name, small in tiny.items():
                block = block.replace(name, small)
            exec(compile(block, "docs/refiner.md", "exec"), names)
    assert names["video"].shape == (5, 16, 16, 3)
    assert names["videos"].shape == (2, 5, 16, 16, 3)
    assert all(name in TEXT for name in tiny)
    assert capsys.readouterr().out.splitlines()[-1] == "A red ball falls to the ground."
    assert type(names["item"]) is Refined


def test_a_prompt_and_what_it_became_make_different_videos(work: Path) -> None:
    """The hook does something: the pipeline sees the refined prompt."""
    from diffusers import WanPipeline

    refine = Refiner.from_pretrained(work / "run/refiner")
    (found,) = refine.refine(["a red ball"])
    assert found.refined != "a red ball"
    pipe = WanPipeline.from_pretrained(work / "wan")
    call = {"height": 16, "width": 16, "num_frames": 5, "num_inference_steps": 1, "max_sequence_length": 64}
    made = [
        pipe(prompt=prompt, generator=torch.Generator().manual_seed(0), output_type="latent", **call).frames
        for prompt in (refine("a red ball"), found.refined, "a red ball")
    ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_every_reason_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| .* \| (?:the prompt|the sentences)", TEXT, re.MULTILINE)) == {*REASONS} - {
        ""
    }


@pytest.mark.parametrize("which", ["shipped", "trained"])
def test_the_folder_is_laid_out_as_vllm_reads_it(which: str, work: Path) -> None:
    folder = SHIPPED if which == "shipped" else work / "run/refiner"
    assert folder is not None
    config = json.loads((folder / "adapter_config.json").read_text())
    # What vLLM's PEFTHelper requires, and what it refuses.
    assert (config["peft_type"], config["bias"]) == ("LORA", "none")
    assert config["lora_alpha"] > 0
    assert config["base_model_name_or_path"]
    assert not any(config[name] for name in ("use_dora", "modules_to_save", "use_rslora"))
    assert config["r"] <= int(re.findall(r"--max-lora-rank (\d+)", TEXT)[0])
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    parts = {
        name: re.fullmatch(r"base_model\.model\.(model\.layers\.\d+\..+)\.lora_([AB])\.weight", name) for name in shapes
    }
    assert all(parts.values()), [name for name, found in parts.items() if not found]
    sides: dict[str, set[str]] = {}
    for name, found in parts.items():
        assert found is not None
        module, side = found.groups()
        assert module.rsplit(".", 1)[1] in config["target_modules"]
        assert shapes[name]["AB".index(side)] == config["r"]
        sides.setdefault(module, set()).add(side)
    assert set(map(frozenset, sides.values())) == {frozenset("AB")}


@pytest.mark.usefixtures("_quick")
def test_a_served_refiner_is_asked_with_its_instruction_and_checked(work: Path) -> None:
    pytest.importorskip("openai")
    settings = read_refiner(work / "run/refiner")
    system = yaml.safe_load((work / "run/refiner/refiner.yaml").read_text())["system"]

    def script(body: Body, asked: int) -> Answer:
        return chat("Sure, here is a prompt." if body["messages"][-1]["content"] == "a box" else "A red ball\nrolls.")

    with serving(script) as server:
        refine = Refiner(settings, ServerLanguageModel(server.url, model="refiner", concurrency=1))
        assert refine.refine(["a ball", "a box"]) == [
            Refined("a ball", "A red ball rolls."), Refined("a box", "a box", "answer"),
        ]  # fmt: skip
        bodies = server.bodies
    assert [body["messages"] for body in bodies] == [
        [{"role": "system", "content": system}, {"role": "user", "content": text}] for text in ("a ball", "a box")
    ]
    assert {body["model"] for body in bodies} == {"refiner"}
    assert {(body["temperature"], body["max_tokens"]) for body in bodies} == {(0.0, settings.sampling.max_new_tokens)}
    assert bodies[0]["seed"] == derived_seed(derived_seed(settings.seed, "a ball"), 0)
