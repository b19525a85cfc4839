"""Language models and judges in 8 and 4 bits: what is refused without bitsandbytes, and what they answer where it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.errors import UserError
from rapo_lightning.models import ModelPool, TransformersLanguageModel, TransformersVisionLanguageModel, quantization
from rapo_lightning.models.quantization import check_place, quantized_bytes
from rapo_lightning.prompting.chat import Sampling
from rapo_lightning.recipe import Recipe
from rapo_lightning.recipe.identity import component_identity
from rapo_lightning.running.memory_plan import plan
from rapo_lightning.running.pool import open_refiner
from tests import tiny_models
from tests.helpers import tiny_recipe
from tests.stage3.runs import write_rounds

CPU = torch.device("cpu")
ALLOW = ["--allow_package", "tests"]
ASKED: list[Any] = [[{"role": "user", "content": text}] for text in ("a red ball", "a small dog jumps", "go")]
KINDS: list[Any] = ["int8", "nf4"]
BATCH = {"int8": 1, "nf4": 3}
WIDTH = 64
"""bitsandbytes' kernels for CPUs take multiples of it."""


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.qwen(tmp_path_factory.mktemp("qwen"), WIDTH)


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.qwen_vl(tmp_path_factory.mktemp("vlm"), 2 * WIDTH)


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "is_bitsandbytes_available", lambda: True)


@pytest.fixture(scope="module")
def trained(qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a refiner on the plain model."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = tiny_recipe(folder, qwen, stage3__epochs=1)
    run = write_rounds(folder / "run", recipe)
    assert main(["finetune", str(recipe), "--out", str(run), *ALLOW]) == 0
    return run / "refiner"


def language(qwen: Path, kind: Any, **more: Any) -> TransformersLanguageModel:
    return TransformersLanguageModel(str(qwen), "float32", **{"batch_size": BATCH[kind], "quantization": kind, **more})


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "is_bitsandbytes_available", lambda: False)
    for build in (TransformersLanguageModel, TransformersVisionLanguageModel):
        with pytest.raises(UserError, match=r"needs bitsandbytes. Got none .* 'rapo-lightning\[qlora\]'"):
            build("a/b", quantization="nf4")


@pytest.mark.usefixtures("_installed")
def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(UserError, match="an answer must depend on no other. Got `batch_size: 16`; set it to 1"):
        TransformersLanguageModel("a/b", quantization="int8")
    with pytest.raises(UserError, match="would round it off in nf4. Got 'lab/refiner'"):
        TransformersLanguageModel("a/b", adapter="lab/refiner", quantization="nf4")
    model = TransformersLanguageModel("a/b", batch_size=1, quantization="int8")
    with pytest.raises(UserError, match="needs a model that stays on its device, .* Got `residency: swap`"):
        ModelPool(language=model, policy="swap", device=CPU)


def test_devices_are_those_that_bitsandbytes_names(qwen: Path) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(UserError, match="needs a device of .*cuda.*, for which bitsandbytes .* is made. Got vulkan"):
        check_place("nf4", str(qwen), torch.device("vulkan"))


def test_a_checkpoint_that_is_quantized_already_is_refused(
    qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(qwen, tmp_path / "gptq")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    said = "needs weights that are not quantized yet. Got"
    with pytest.raises(UserError, match=rf"{said} .*gptq, quantized by gptq; name"):
        quantization.check_not_quantized("nf4", str(folder))
    arguments = {"checkpoint": str(folder), "batch_size": 4, "quantization": "nf4"}
    recipe = tiny_recipe(tmp_path, qwen, language_model__init_args=arguments)
    assert main(["validate", str(recipe), *ALLOW]) == 2
    assert said in capsys.readouterr().err


def test_validate_needs_no_bitsandbytes_but_says_what_cannot_be(
    qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "is_bitsandbytes_available", lambda: False)
    arguments = {"checkpoint": str(qwen), "quantization": "int8", "batch_size": 1}
    recipe = tiny_recipe(tmp_path, qwen, language_model__init_args=arguments)
    assert main(["validate", str(recipe), *ALLOW]) == 0
    assert main(["validate", str(recipe), "--residency", "swap", *ALLOW]) == 2
    assert "stays on its device" in capsys.readouterr().err
    recipe = tiny_recipe(tmp_path, qwen, language_model__init_args={**arguments, "batch_size": 4})
    assert main(["validate", str(recipe), *ALLOW]) == 2
    assert "Got `batch_size: 4`" in capsys.readouterr().err


def test_it_is_part_of_the_identity(qwen: Path) -> None:
    def identity(**more: Any) -> Any:
        path = "rapo_lightning.models.TransformersLanguageModel"
        return component_identity({"class_path": path, "init_args": {"checkpoint": str(qwen), **more}})

    found = [json.dumps(identity(**more)) for more in ({}, {"quantization": "nf4"}, {"quantization": "int8"})]
    assert len(set(found)) == 3
    assert "quantization" not in found[0]


@pytest.mark.parametrize("role", ["language_model", "vision_language_model"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_counts_what_is_loaded(kind: Any, role: Any, qwen: Path, vlm: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder, build = (
        (qwen, TransformersLanguageModel) if "vision" not in role else (vlm, TransformersVisionLanguageModel)
    )
    arguments = {"checkpoint": str(folder), "dtype": "float32", "batch_size": 1, "quantization": kind}
    model: Any = build(**arguments)
    model.load()
    recipe = Recipe(**{role: {"class_path": f"rapo_lightning.models.{build.__name__}", "init_args": arguments}})
    (found,) = plan(recipe)
    states = [getattr(value, "quant_state", None) for value in model.model.parameters()]
    extra = sum(state.absmax.numel() + 4 * state.state2.absmax.numel() for state in states if state is not None)
    held = extra + sum(value.numel() * value.element_size() for value in model.model.parameters())
    # Layers of the tiny models are no multiples of the 16,384 values of a constant.
    assert found.parts[0].bytes == pytest.approx(held, rel=0.02)
    plain = recipe_without(recipe, role)
    assert held < 0.8 * (plan(plain)[0].parts[0].bytes or 0)


def recipe_without(recipe: Recipe, role: str) -> Recipe:
    """The same with plain weights."""
    model = getattr(recipe, role)
    kept = {name: value for name, value in model["init_args"].items() if name != "quantization"}
    return Recipe(**{role: {**model, "init_args": kept}})


def test_sizes_of_a_model_of_seven_billion() -> None:
    assert quantized_bytes("none", 7_600, 6_500, 2) == 15_200
    assert quantized_bytes("int8", 7_600, 6_500, 2) == 8_700
    assert quantized_bytes("nf4", 7_600, 6_500, 2) == 5_553


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_a_function_of_conversation_and_seed(kind: Any, qwen: Path) -> None:
    pytest.importorskip("bitsandbytes")
    sampling = Sampling(temperature=0.7, max_new_tokens=8)
    pool = ModelPool(language=language(qwen, kind), device=CPU)
    together = pool.language.complete(ASKED, [1, 2, 3], sampling, 2)
    alone = [language(qwen, kind, batch_size=1).complete([turns], [seed], sampling, 2)[0] for turns, seed in zip(ASKED, (1, 2, 3), strict=True)]  # fmt: skip
    assert together == alone
    chosen = pool.language.choose(ASKED, [""] * 3, ["yes", "no"])
    plain = TransformersLanguageModel(str(qwen), "float32").choose(ASKED, [""] * 3, ["yes", "no"])
    assert 0 < np.abs(chosen - plain).max() < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_a_judge_answers(kind: Any, vlm: Path) -> None:
    pytest.importorskip("bitsandbytes")
    judge = TransformersVisionLanguageModel(str(vlm), "float32", BATCH[kind], quantization=kind)
    pool = ModelPool(vision_language=judge, device=CPU)
    videos = [np.random.default_rng(seed).integers(0, 255, (8, 64, 64, 3), np.uint8) for seed in range(2)]
    found = pool.vision_language.choose(videos, 8.0, ASKED[:2], [""] * 2, ["yes", "no"])
    plain = TransformersVisionLanguageModel(str(vlm), "float32").choose(videos, 8.0, ASKED[:2], [""] * 2, ["yes", "no"])
    assert 0 < np.abs(found - plain).max() < 0.2
    assert len(pool.vision_language.answer(videos, 8.0, ASKED[:2], 4)) == 2


def test_counting_tokens_loads_no_weights(qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rapo_lightning.models.transformers_language.load_causal_model", None)
    assert TransformersLanguageModel(str(qwen)).count_tokens("a red ball") > 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_stays_beside_a_quantized_base(kind: Any, qwen: Path, trained: Path) -> None:
    pytest.importorskip("bitsandbytes")
    recipe = Recipe(
        language_model={
            "class_path": "rapo_lightning.models.TransformersLanguageModel",
            "init_args": {"checkpoint": str(qwen), "dtype": "float32", "batch_size": BATCH[kind], "quantization": kind},
        }
    )
    with pytest.raises(
        UserError, match=rf"is for its language model as it is. Got one for .*: {kind}`; say `allow_other"
    ):
        open_refiner(trained, recipe, ModelPool(language=language(qwen, kind), device=CPU))
    recipe.allow_other_base = True
    identities = []
    for alone in (False, True):
        pool = ModelPool(language=language(qwen, kind), device=CPU)
        refiner = open_refiner(trained, recipe, pool, alone=alone)
        identities.append(refiner.identity())
        own, base = refiner.answers(["a red ball"]), pool.language.complete(ASKED[:1], [1], Sampling(max_new_tokens=8))
        assert len(own) == len(base) == 1
    plain = open_refiner(
        trained, _plain_recipe(qwen), ModelPool(language=TransformersLanguageModel(str(qwen)), device=CPU)
    )
    assert identities[0] == identities[1] != plain.identity()


def test_a_loop_says_so_before_it_collects(qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"checkpoint": str(qwen), "batch_size": 4, "quantization": "nf4"}
    recipe = tiny_recipe(tmp_path, qwen, language_model__init_args=arguments)
    assert main(["loop", str(recipe), "--out", str(tmp_path / "loop"), "--cycles", "1", *ALLOW]) == 2
    assert "A refiner is for its language model as it is. Got one for" in capsys.readouterr().err


def _plain_recipe(qwen: Path) -> Recipe:
    arguments = {"checkpoint": str(qwen)}
    model: Any = {"class_path": "rapo_lightning.models.TransformersLanguageModel", "init_args": arguments}
    return Recipe(language_model=model, allow_other_base=True)


def test_a_loop_with_a_quantized_language_model(qwen: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    arguments = {"checkpoint": str(qwen), "dtype": "float32", "batch_size": 4, "quantization": "nf4"}
    recipe = tiny_recipe(tmp_path, qwen, language_model__init_args=arguments, limit=2, stage2__rounds=2)
    assert main(["collect", str(recipe), "--out", str(tmp_path / "run"), "--residency", "swap", *ALLOW]) == 0
    assert len(read_rows(tmp_path / "run" / "trajectories")) == 4
