from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from rapo_lightning import Refiner
from rapo_lightning.data.resources import find
from rapo_lightning.errors import UserError
from rapo_lightning.models.refiner import RefinerFolder, read_refiner
from rapo_lightning.prompting.chat import Sampling


def test_refiner_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"refiner\.yaml"):
        Refiner.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="Got 'nowhere'"):
        Refiner.from_pretrained("nowhere")


def test_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "refiner.yaml").write_text(
        yaml.safe_dump({"base_model": "one", "system": "x", "sampling": {}, "seed": 0})
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps({}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"trained on 'one'.*Got the base model 'other'"):
        Refiner.from_pretrained(tmp_path, base="other")


def test_an_empty_answer_falls_back_to_the_prompt() -> None:
    class Silent:
        def complete(self, conversations: list[object], seeds: list[int], sampling: Sampling) -> list[list[str]]:
            return [[" \n"], ["a red\n ball"]]

    refine = Refiner(RefinerFolder(Path(), "base", "system", Sampling()), Silent())  # type: ignore[arg-type]
    assert refine.answers(["one", "two"]) == ["", "a red ball"]
    assert refine(["one", "two"]) == ["one", "a red ball"]


def test_shipped_refiner_is_small() -> None:
    folder = find("ckpt/lab/refiner")
    assert folder is not None
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 5e6
    assert Refiner.from_pretrained(folder, base="smollm2-135m-instruct").settings.sampling.temperature == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a shipped refiner's folder."""
    shipped = find("ckpt/lab/rewriter")
    assert shipped is not None
    shutil.copytree(shipped, tmp_path / "refiner")
    return tmp_path / "refiner"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "while parsing"),
        ("- a", "a list instead of fields"),
        ("base_model: x\nsystem: ''\nsampling: {}\nseed: 0\n", "no instruction"),
        ("system: y\nsampling: {}\nseed: 0\n", "base_model"),
        ("base_model: x\nsystem: y\nsampling: {temperature: hot}\nseed: 0\n", "temperature"),
        ("base_model: x\nsystem: y\nsampling: {temperature: -1}\nseed: 0\n", "temperature"),
        ("base_model: x\nsystem: y\nsampling: {}\nseed: 0\nfoo: 1\n", "foo"),
    ],
)
def test_damaged_settings_are_named(folder: Path, text: str, message: str) -> None:
    (folder / "refiner.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"Got .*refiner/refiner\.yaml: .*{message}.*; restore"):
        read_refiner(folder)


def test_a_cut_off_adapter_is_named(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="whole safetensors file"):
        read_refiner(folder)


def test_identity_changes_with_adapter_and_settings_alone(folder: Path) -> None:
    before = read_refiner(folder).identity()
    (folder / "README.md").write_text("another card")
    assert read_refiner(folder).identity() == before
    (folder / "refiner.yaml").write_text((folder / "refiner.yaml").read_text().replace("seed: 0", "seed: 1"))
    assert read_refiner(folder).identity() != before
