from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rapo_lightning.checkpoints import checkpoints_of, entries, identity, loading, weights_identity
from rapo_lightning.checkpoints.verify import write_marker
from rapo_lightning.errors import RunError, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def model(folder: Path, weights: str = "weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(weights)
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("a card")
    return folder


def test_other_weights_under_one_name_are_another_checkpoint(cache: Path) -> None:
    unfetched = identity("smollm2-135m-instruct")
    found = []
    for weights in ("from the hub", "unpacked from 4 bits"):
        write_marker(model(cache / "smollm2-135m-instruct", weights))
        found.append(identity("smollm2-135m-instruct"))
    assert len({unfetched, *found}) == 3
    assert all(len(item) == 16 and int(item, 16) >= 0 for item in found)


def test_folder_is_known_by_what_it_computes(tmp_path: Path, cache: Path) -> None:
    folder = model(tmp_path / "a")
    first = identity(str(folder))
    (folder / "README.md").write_text("another card")
    (folder / "samples.png").write_bytes(b"x")
    write_marker(folder)
    assert identity(str(folder)) == first == identity(str(model(tmp_path / "copy")))
    assert identity(str(model(tmp_path / "b", "other"))) != first


def test_folder_is_read_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(tmp_path / "a")
    first = identity(str(folder))
    with monkeypatch.context() as patch:
        patch.setattr("rapo_lightning.checkpoints.identities.file_sha256", lambda _: pytest.fail("read again"))
        assert identity(str(folder)) == first
    (cache / "identities.json").write_text("{damaged")
    assert identity(str(folder)) == first
    # The same size, changed later.
    (folder / "model.safetensors").write_text("WEIGHTS")
    os.utime(folder / "model.safetensors", ns=(0, 5))
    assert identity(str(folder)) != first


def test_hub_id_is_known_by_the_commit_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    absent = identity("owner/name")
    found = []
    for commit in ("a" * 40, "b" * 40):
        repository = tmp_path / "hub/models--owner--name"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs/main").write_text(commit)
        model(repository / "snapshots" / commit)
        found.append(identity("owner/name"))
    assert len({absent, *found}) == 3


def test_damaged_record_is_one_sentence(tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    (folder / "checksums.json").write_text(json.dumps({"a": "1"})[:-3])
    with pytest.raises(RunError, match="checksums.json is damaged"):
        identity(str(folder))


def test_known_checkpoints_among_names() -> None:
    found = checkpoints_of(["lab/refiner", "owner/name", "/folder", "all-minilm-l6-v2", "lab/refiner"])
    assert found == [entries()["lab/refiner"], entries()["all-minilm-l6-v2"]]


def test_failure_to_load_names_the_folder() -> None:
    for error in (KeyError("weight"), OSError("no file\nin it"), ValueError(""), Exception("expected value")):
        with pytest.raises(RunError, match="cannot be loaded from f. Got") as caught, loading("video model", "f"):
            raise error
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="as it was"), loading("video model", "f"):
        raise UserError("as it was")


def test_weights_are_known_without_the_tokenizer(tmp_path: Path, cache: Path) -> None:
    folder = model(tmp_path / "a")
    first, weights = identity(str(folder)), weights_identity(str(folder))
    (folder / "tokenizer.json").write_text('{"version": 2}')
    assert identity(str(folder)) != first
    assert weights_identity(str(folder)) == weights
    (folder / "model.safetensors").write_text("other weights")
    assert weights_identity(str(folder)) != weights
