from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.profilers import SimpleProfiler

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.errors import UserError
from rapo_lightning.running.callbacks import QuietBar
from rapo_lightning.running.trainer import check_trainer, make_trainer, predict_trainer
from tests.helpers import ROOT, tiny_recipe

ALLOW = ("--allow_package", "tests")


def test_whatever_lightning_takes_is_passed_on() -> None:
    timer = {"class_path": "lightning.pytorch.callbacks.Timer", "init_args": {"duration": "00:00:01:00"}}
    trainer = make_trainer({"callbacks": [timer], "profiler": "simple", "limit_predict_batches": 2}, max_epochs=3)
    assert any(isinstance(callback, Timer) for callback in trainer.callbacks)
    assert isinstance(trainer.profiler, SimpleProfiler)
    assert trainer.limit_predict_batches == 2
    assert trainer.max_epochs == 3


def test_world_size_is_the_trainers() -> None:
    assert make_trainer({"devices": 2, "accelerator": "cpu"}).world_size == 2
    assert make_trainer({}).world_size >= 1
    # Two named devices are two, whatever the machine has; a CPU has none to name.
    with pytest.raises(UserError, match="`trainer` cannot work here"):
        make_trainer({"devices": "0,1", "accelerator": "cpu"})


def test_precision_is_trainings_alone() -> None:
    assert predict_trainer({"precision": "bf16-mixed"}).precision == "32-true"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devics": 2}, "Option 'devics' is not accepted"),
        ({"max_time": 3.5}, "max_time"),
        ({"max_epochs": 3}, "`stage3.epochs` decides it"),
        ({"callbacks": [{"class_path": "os.system"}]}, "not allowed"),
        ({"callbacks": [{"class_path": "subprocess.Popen", "init_args": {"args": "true"}}]}, "not allowed"),
        ({"default_root_dir": "/tmp/elsewhere"}, "must lie below the working directory"),
        (
            {
                "callbacks": [
                    {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"dirpath": "../x"}}
                ]
            },
            "must lie below the working directory",
        ),
        (
            {
                "logger": {
                    "class_path": "lightning.pytorch.loggers.CSVLogger",
                    "init_args": {"save_dir": "x", "name": "/tmp/y"},
                }
            },
            "must lie below the working directory",
        ),
        ({"strategy": "no_such"}, "no_such"),
    ],
)
def test_what_cannot_be_is_named_in_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_trainer(options)
    assert "\n" not in str(caught.value)


def test_a_callback_of_the_recipe_imports_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap_callback.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="not allowed"):
        check_trainer({"callbacks": [{"class_path": "trap_callback.X"}]})


@pytest.mark.parametrize("command", ["collect", "evaluate"])
def test_mistakes_end_commands_before_they_begin(
    command: str, tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, language_model)
    assert main([command, str(recipe), "--out", str(tmp_path / "r"), "--trainer.devics", "2", *ALLOW]) == 2
    assert "devics" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_fast_dev_run_tries_one_round_of_one_batch(tmp_path: Path, language_model: Path) -> None:
    recipe = tiny_recipe(tmp_path, language_model)
    assert main(["collect", str(recipe), "--out", str(tmp_path / "r"), "--trainer.fast_dev_run", "true", *ALLOW]) == 0
    assert [row["round"] for row in read_rows(tmp_path / "r/trajectories")] == [0, 0]


def test_under_torchrun_the_processes_share_the_work(tmp_path: Path, language_model: Path) -> None:
    recipe = tiny_recipe(tmp_path, language_model, stage2__rounds=1)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29611"]
    command = ["-m", "rapo_lightning", "collect", str(recipe), "--out", str(tmp_path / "r"), *ALLOW]
    result = subprocess.run([*launch, *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    shares = [len((tmp_path / f"r/records/generations.{rank}.jsonl").read_text().splitlines()) for rank in (0, 1)]
    assert shares == [3, 3]
    assert len(read_rows(tmp_path / "r/trajectories")) == 6


def test_other_counts_than_torchruns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(UserError, match="must count the 2 processes that torchrun started. Got devices=1"):
        make_trainer({"devices": 1, "accelerator": "cpu"})


def test_the_progress_bar_says_no_version_number() -> None:
    bar = next(callback for callback in make_trainer({}).callbacks if isinstance(callback, QuietBar))
    trainer = make_trainer({"enable_progress_bar": False})
    assert not any(isinstance(callback, QuietBar) for callback in trainer.callbacks)
    assert "v_num" not in bar.get_metrics(trainer, None)  # type: ignore[arg-type]
