"""A refiner's folder and a training's checkpoints are written whole, or not at all."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from rapo_lightning.errors import RunError
from rapo_lightning.models.refiner_folder import RefinerFolder, read_refiner
from rapo_lightning.prompting.chat import Sampling
from rapo_lightning.recipe import Lora, Stage3
from rapo_lightning.stage3 import export as exporting
from rapo_lightning.stage3.engines.lightning.checkpoints import WholeFiles
from rapo_lightning.stage3.export import export, recover
from tests.stage3.runs import refiner_module


@pytest.fixture(scope="module")
def trained(language_model: Path) -> tuple[Any, Any]:
    module, tokenizer = refiner_module(language_model, Stage3(lora=Lora(r=2)))
    return module.model, tokenizer


def settings(folder: Path, seed: int = 0) -> RefinerFolder:
    return RefinerFolder(folder, "base", "Rewrite: \u00e9 {x}", Sampling(), seed, "i", "t", frozenset({"ball"}))


def test_what_is_written_is_read_again(trained: tuple[Any, Any], tmp_path: Path) -> None:
    told = settings(tmp_path / "refiner")
    export(told, *trained, "card")
    assert read_refiner(told.path) == told
    assert [path.name for path in tmp_path.iterdir()] == ["refiner"]


def test_an_older_refiner_stays_until_a_whole_one_is_there(
    trained: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "refiner"
    export(settings(folder), *trained, "card")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(trained[1], "save_pretrained", full)
        with pytest.raises(RunError, match="No space left on device"):
            export(settings(folder, seed=1), *trained, "card")
    assert read_refiner(folder).seed == 0
    recover(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["refiner"]
    export(settings(folder, seed=1), *trained, "card")
    assert read_refiner(folder).seed == 1
    assert [path.name for path in tmp_path.iterdir()] == ["refiner"]


def test_a_kill_between_two_renames_is_mended(
    trained: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "refiner"
    export(settings(folder), *trained, "card")
    replace, calls = exporting.os.replace, []

    def once(source: Path, target: Path) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(source)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(exporting.os, "replace", once)
        with pytest.raises(KeyboardInterrupt):
            export(settings(folder, seed=1), *trained, "card")
    assert not folder.exists()
    recover(folder)
    assert read_refiner(folder).seed == 0
    assert [path.name for path in tmp_path.iterdir()] == ["refiner"]


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"last\.ckpt cannot be written"):
        WholeFiles().save_checkpoint({}, str(tmp_path / "file/last.ckpt"))
