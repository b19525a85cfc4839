"""A training that is cut off in the middle of an epoch goes on to the adapter, losses and rates of an unbroken one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from datamodules.resumable import ResumableLoader
from rapo_lightning.cli import main
from rapo_lightning.errors import RunError
from rapo_lightning.recipe.training import Stage3
from rapo_lightning.stage3.engines.lightning.checkpoints import read_checkpoint
from rapo_lightning.stage3.engines.lightning.module import RefinerModule
from tests.helpers import tiny_recipe
from tests.stage3.runs import write_rounds
from tests.stage3.test_finetune import ALLOW, same_adapter

STEPS = 4
"""Steps of an epoch of the tiny recipe: 8 training pairs, two each."""


@pytest.fixture(scope="module")
def often(language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that saves after every step."""
    return tiny_recipe(tmp_path_factory.mktemp("often"), language_model, stage3__checkpoint_steps=1)


@pytest.fixture(scope="module")
def unbroken(often: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained in one go."""
    folder = write_rounds(tmp_path_factory.mktemp("unbroken"), often)
    main(["finetune", str(often), "--out", str(folder), *ALLOW])
    return folder


def _logged(folder: Path, name: str) -> dict[str, str]:
    with (folder / "metrics.csv").open() as file:
        return {row["step"]: row[name] for row in csv.DictReader(file) if row[name]}


def _cut(monkeypatch: pytest.MonkeyPatch, epoch: int, passes: int) -> None:
    added, done = RefinerModule._added, [0, 0]

    def plug_pulled(self: RefinerModule, part: Any) -> torch.Tensor:
        done[:] = [self.current_epoch, done[1] + 1 if self.current_epoch == done[0] else 1]
        if done == [epoch, passes + 1]:
            raise KeyError("no power")
        return added(self, part)

    monkeypatch.setattr(RefinerModule, "_added", plug_pulled)


@pytest.mark.parametrize(("epoch", "batch"), [(0, 1), (0, 4), (1, 0), (1, 1), (1, 5), (2, 6)])
def test_it_goes_on_where_it_was(
    epoch: int, batch: int, often: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_rounds(tmp_path, often)
    with monkeypatch.context() as patch:
        _cut(patch, epoch, batch)
        with pytest.raises(KeyError, match="no power"):
            main(["finetune", str(often), "--out", str(folder), *ALLOW])
    # Two micro-batches make a step: what was half done is done again, and nothing else is.
    last = list((folder / "checkpoints").glob("*/last.ckpt"))
    done = read_checkpoint(last[0])["global_step"] if last else 0
    assert done == epoch * STEPS + batch // 2
    main(["finetune", str(often), "--out", str(folder), *ALLOW])
    assert same_adapter(folder, unbroken)
    for name in ("train_loss_step", "train_loss_epoch", "lr-AdamW", "val_loss"):
        assert _logged(folder, name) == _logged(unbroken, name)


def test_how_often_is_saved_is_not_part_of_a_training(unbroken: Path, often: Path, tmp_path: Path) -> None:
    folder = write_rounds(tmp_path, often)
    main(["finetune", str(often), "--out", str(folder), "--stage3.checkpoint_steps", "0", *ALLOW])
    assert same_adapter(folder, unbroken)
    names = [path.name for path in (folder / "checkpoints").iterdir()]
    assert names == [path.name for path in (unbroken / "checkpoints").iterdir()]


def test_a_loader_goes_on_behind_what_it_gave() -> None:
    def loader() -> ResumableLoader:
        order = RandomSampler(range(10), generator=torch.Generator().manual_seed(3))
        return ResumableLoader(list(range(10)), BatchSampler(order, 4, False), list)

    whole = list(loader())
    first = loader()
    batches = iter(first)
    taken = [next(batches)]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert len(second) == 3
    assert taken + list(second) == whole


def test_after_an_epochs_last_batch_the_next_one_begins_at_its_first() -> None:
    loader = ResumableLoader(list(range(4)), BatchSampler(SequentialSampler(range(4)), 2, False), list)
    assert list(loader) == [[0, 1], [2, 3]]
    state = loader.state_dict()
    loader.load_state_dict(state)
    assert list(loader) == [[0, 1], [2, 3]]


def test_a_negative_number_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"checkpoint_steps >= 0 .*Got .*checkpoint_steps=-1"):
        Stage3(checkpoint_steps=-1)


def test_a_loader_refuses_an_epoch_that_was_begun_on_other_devices() -> None:
    loader = ResumableLoader(list(range(8)), BatchSampler(SequentialSampler(range(8)), 2, False), list, devices=2)
    with pytest.raises(RunError, match="Got 2 instead of 1"):
        loader.load_state_dict({"taken": 1, "devices": 1})
    loader.load_state_dict({"taken": 0, "devices": 1})
