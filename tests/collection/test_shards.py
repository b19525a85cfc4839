"""Shares of the prompts: what they are, and runs of several in one run folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rapo_lightning.cli import main
from rapo_lightning.data.prompts import Prompt, Share, read_share
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.errors import UserError
from rapo_lightning.running.folder import locked
from tests.helpers import tiny_recipe
from tests.test_pipeline import ALLOW, comparable

PROMPTS = [Prompt(f"a ball number {number}") for number in range(23)]


@pytest.mark.parametrize("count", [1, 2, 5, 23, 40])
def test_shares_are_equal_and_make_up_the_whole(count: int) -> None:
    shares = [Share(index, count).of(PROMPTS) for index in range(count)]
    assert {len(share) for share in shares} <= {23 // count, -(-23 // count)}
    assert sorted(prompt.text for share in shares for prompt in share) == sorted(prompt.text for prompt in PROMPTS)
    # Neither the order of the file nor who else is there matters.
    assert {p.text for p in Share(0, count).of(PROMPTS[::-1])} == {p.text for p in shares[0]}
    assert shares[0] == [prompt for prompt in PROMPTS if prompt in shares[0]]
    if count == 2:
        assert shares[0] != PROMPTS[::2]


def test_a_share_is_read() -> None:
    assert [read_share(text) for text in ("", "1/1", "2/3")] == [Share(), Share(0, 1), Share(1, 3)]
    assert [share.name for share in (Share(), Share(0, 1), Share(1, 3))] == ["", "", "2-of-3"]


@pytest.mark.parametrize("text", ["0/0", "0/4", "3/2", "a/b", "1", "1/2/3", "-1/2", "1/-2", "1.5/2", "²/3"])
def test_no_share_is_one_sentence(
    text: str, tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, language_model)
    assert main(["collect", str(recipe), "--out", str(tmp_path / "run"), f"--shard={text}", *ALLOW]) == 2
    assert f"must be i/n with i from 1 to n, such as 1/4 to 4/4. Got {text!r}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_shards_run_at_once_but_none_twice_nor_beside_a_whole_run(tmp_path: Path) -> None:
    with locked(tmp_path, "1-of-2"), locked(tmp_path, "2-of-2"):
        for again in ("1-of-2", ""):
            with pytest.raises(UserError, match=f"or by one per shard. Got .* which process {os.getpid()}"):  # noqa: SIM117
                with locked(tmp_path, again):
                    pass
    # A killed shard leaves its file, which holds nobody.
    (tmp_path / ".lock.1-of-3").touch()
    (tmp_path / ".lock.1-of-3.pid").write_text("1\n")
    with locked(tmp_path):
        assert not (tmp_path / ".lock.1-of-3").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_shard_does_not_start_beside_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rapo_lightning.running.folder._GATE_SECONDS", 0.1)
    with locked(tmp_path), pytest.raises(UserError, match="written by one run at a time"), locked(tmp_path, "1-of-2"):
        pass


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("recipe"), language_model)


def generated(folder: Path) -> list[str]:
    """Keys of all generations that were recorded."""
    paths = sorted(folder.glob("records/generations.*.jsonl"))
    return [json.loads(line)["key"] for path in paths for line in path.read_text().splitlines()]


def test_shards_give_the_rows_of_one_run_and_any_door_goes_on(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert main(["collect", str(recipe), "--out", str(whole), *ALLOW]) == 0
    for shard, other in (("1/3", "2-of-3"), ("2/3", "1-of-3")):
        # As if the other ran at the same time.
        with locked(folder, other):
            assert main(["collect", str(recipe), "--out", str(folder), "--shard", shard, *ALLOW]) == 0
        assert "2 prompts, 0 already complete" in capsys.readouterr().out
    assert len(read_rows(folder / "trajectories")) == 4 * 3
    # Another number of shards; then a run of all.
    for options in (["--shard", "2/2"], []):
        assert main(["collect", str(recipe), "--out", str(folder), *options, *ALLOW]) == 0
    assert comparable(read_rows(folder / "trajectories")) == comparable(read_rows(whole / "trajectories"))
    assert len(set(generated(folder))) == len(generated(folder)) == 18
    assert sorted(generated(folder)) == sorted(generated(whole))
    assert not (folder / "pending").exists()
    assert not list(folder.glob(".lock*"))


def test_more_shards_than_prompts(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", str(recipe), "--out", str(tmp_path), "--limit", "1", "--shard", "2/2", *ALLOW]) == 0
    assert "0 rows of 0 prompts" in capsys.readouterr().out
