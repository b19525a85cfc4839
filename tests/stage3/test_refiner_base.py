"""Which base a refiner's adapter may stand on, and what its folder must hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from rapo_lightning import Refiner
from rapo_lightning.cli import main
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models import TransformersLanguageModel
from rapo_lightning.models.refiner_folder import read_refiner

ALLOW = ("--allow_package", "tests")


def test_a_base_with_other_weights_is_refused_unless_it_is_allowed(copied: Path) -> None:
    folder, config = copied / "refiner", copied / "refiner/refiner.yaml"
    alike = Refiner.from_pretrained(folder)
    wanted = alike("a ball")
    config.write_text(config.read_text().replace("base_identity: ", "base_identity: '0'  # "))
    refine = Refiner.from_pretrained(folder)
    with pytest.raises(UserError, match=r"trained on other weights.*instead of 0; .*`allow_other_base`"):
        refine.check_base()
    with pytest.raises(UserError, match="trained on other weights"):
        refine(["a ball"])
    # Found before anything was loaded.
    assert refine.model.model is None  # type: ignore[attr-defined]
    allowed = Refiner.from_pretrained(folder, allow_other_base=True)
    assert allowed("a ball") == wanted
    assert allowed.identity() != Refiner.from_pretrained(folder).identity()


def test_a_copy_of_the_base_under_another_name_stands_in_where_it_is_allowed(
    trained: Path, language_model: Path, tmp_path: Path
) -> None:
    folder, other = trained / "refiner", str(shutil.copytree(language_model, tmp_path / "copy"))
    with pytest.raises(UserError, match=r"Got the base model '.*copy'; .*`allow_other_base`"):
        Refiner.from_pretrained(folder, other)
    copy = Refiner.from_pretrained(folder, other, allow_other_base=True)
    assert copy(["a ball", "a box"]) == Refiner.from_pretrained(folder)(["a ball", "a box"])
    assert copy.model.name == other  # type: ignore[attr-defined]


def test_commands_refuse_other_weights_before_anything_loads(
    copied: Path, recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copied / "refiner/refiner.yaml"
    config.write_text(config.read_text().replace("base_identity: ", "base_identity: '0'  # "))
    arguments = ["refine", str(recipe), "a ball", "--out", str(copied), *ALLOW]
    with monkeypatch.context() as patched:
        patched.setattr("rapo_lightning.models.transformers_language.load_causal_model", None)
        assert main(arguments) == 2
        evaluate = ["evaluate", str(recipe), "--out", str(copied), "--evaluation.arms", "[raw, refiner]", *ALLOW]
        assert main(evaluate) == 2
    assert capsys.readouterr().err.count("say `allow_other_base`") == 2
    assert main([*arguments, "--allow_other_base", "true"]) == 0
    assert capsys.readouterr().out.strip()


def test_a_loop_rewriter_on_other_weights_is_refused_at_the_start(copied: Path, recipe: Path) -> None:
    from rapo_lightning.models import ModelPool
    from rapo_lightning.recipe.files import load_recipe
    from rapo_lightning.recipe.identity import align_hash, rewrite_settings
    from rapo_lightning.stage1.align import Aligner, AlignParts
    from rapo_lightning.stage2.loop import Loop

    config = copied / "refiner/refiner.yaml"
    config.write_text(config.read_text().replace("base_identity: ", "base_identity: '0'  # "))
    loaded = load_recipe(recipe)
    before = rewrite_settings(loaded), align_hash(loaded)
    loaded.allow_other_base = True
    assert (rewrite_settings(loaded), align_hash(loaded)) == before
    loaded.stage2.rewriter = loaded.stage1.rewriter = str(copied / "refiner")
    allowed = rewrite_settings(loaded), align_hash(loaded)
    loaded.allow_other_base = False
    assert rewrite_settings(loaded) != allowed[0]
    assert align_hash(loaded) != allowed[1]
    with pytest.raises(UserError, match="trained on other weights"):
        Loop(loaded, ModelPool(), [], copied)
    models = ModelPool()
    with pytest.raises(UserError, match="trained on other weights"):
        Aligner(loaded, models, AlignParts.from_recipe(loaded, models))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "refiner.yaml"])
def test_a_folder_of_which_a_file_is_missing_or_half_written_is_refused(copied: Path, name: str) -> None:
    path = copied / "refiner" / name
    whole = path.read_bytes()
    # The end of refiner.yaml says where it comes from, and may be anything.
    for part in (0.0, 0.5, 0.9) if name != "refiner.yaml" else (0.0, 0.5):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(UserError, match=rf"(?s)\AA refiner's .*Got .*{name}.*again without the folder\.\Z"):
            read_refiner(copied / "refiner")
    path.unlink()
    with pytest.raises(UserError, match=rf"where {name} is missing"):
        read_refiner(copied / "refiner")


def test_an_adapter_without_its_weights_or_its_rank_is_refused(copied: Path) -> None:
    config = copied / "refiner/adapter_config.json"
    whole = json.loads(config.read_text())
    config.write_text(json.dumps({**whole, "r": 0}))
    with pytest.raises(UserError, match=r"must say r, lora_alpha.*: no r; copy"):
        read_refiner(copied / "refiner")
    config.write_text("[]")
    with pytest.raises(UserError, match=r"adapter_config\.json must say"):
        read_refiner(copied / "refiner")
    config.write_text(json.dumps(whole))
    save_file({"x": torch.zeros(1)}, copied / "refiner/adapter_model.safetensors")
    with pytest.raises(UserError, match="must hold LoRA weights"):
        read_refiner(copied / "refiner")


@pytest.mark.parametrize("damage", ["missing", "other", "nan"])
def test_an_adapter_that_is_not_of_its_base_does_not_leave_the_base_alone(copied: Path, damage: str) -> None:
    path = copied / "refiner/adapter_model.safetensors"
    weights = load_file(path)
    name = min(weights)
    value = weights.pop(name)
    if damage != "missing":
        weights |= {name: value * torch.nan} if damage == "nan" else {name.replace("layers.0", "layers.7"): value}
    save_file(weights, path)
    with pytest.raises(RunError, match=r"finite weights for the layers of its base, each and no others\. Got .*lora_A"):
        Refiner.from_pretrained(copied / "refiner")("a ball")


def test_a_second_adapter_that_cannot_be_loaded_is_named(copied: Path, language_model: Path) -> None:
    model = TransformersLanguageModel(str(language_model), dtype="float32")
    model.switch(str(copied / "refiner"))
    other = shutil.copytree(copied / "refiner", copied / "other")
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**config, "r": 2 * config["r"]}))
    with pytest.raises(RunError, match=r"The adapter cannot be loaded from .*other\. Got RuntimeError"):
        model.switch(str(other))


def test_a_damaged_vocabulary_is_named(copied: Path) -> None:
    (copied / "refiner/vocabulary.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"vocabulary\.txt must be UTF-8.*or delete it"):
        read_refiner(copied / "refiner")


def test_a_folder_that_export_was_writing_is_refused(trained: Path, tmp_path: Path) -> None:
    """`export` writes `refiner.yaml` after the adapter, in a folder of another name."""
    half = shutil.copytree(trained / "refiner", tmp_path / "refiner.tmp")
    assert yaml.safe_load((half / "refiner.yaml").read_text())["base_model"]
    (half / "refiner.yaml").unlink()
    with pytest.raises(UserError, match=r"where refiner\.yaml is missing"):
        Refiner.from_pretrained(half)


def test_a_base_that_is_not_here_yet_is_fetched_before_it_is_compared(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub id that nobody fetched has no weights, and is no other model for that."""
    here: list[str] = []
    monkeypatch.setattr("rapo_lightning.models.refiner.is_here", lambda name: name in here)
    monkeypatch.setattr(
        "rapo_lightning.models.refiner.weights_identity",
        lambda name: read_refiner(copied / "refiner").base_identity if name in here else "name alone",
    )
    refine = Refiner.from_pretrained(copied / "refiner")
    refine.check_base()
    load = refine.model.load

    def fetch() -> None:
        here.append(refine.settings.base_model)
        load()

    monkeypatch.setattr(refine.model, "load", fetch)
    assert refine("a ball")
    assert here
