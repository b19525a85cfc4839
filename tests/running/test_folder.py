from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import get_dataset_config_names, load_dataset

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import TrajectoryStore
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.recipe import Recipe, Stage2
from rapo_lightning.recipe.files import recipe_text
from rapo_lightning.running.folder import locked, rows_of_recipe, save_recipe, write_text
from tests.data.test_trajectory import make_row
from tests.helpers import ROOT, run_cli, tiny_recipe

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom rapo_lightning.running.folder import locked\n"
    "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


def test_a_run_folder_has_one_writer_whom_the_second_names(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"which process {holder.pid} is writing to"), locked(tmp_path):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path):
        assert (tmp_path / ".lock.pid").read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


def test_two_collects_on_one_folder_do_not_both_work(tmp_path: Path, language_model: Path) -> None:
    recipe = tiny_recipe(tmp_path, language_model)
    with locked(tmp_path / "run"):
        result = run_cli("collect", str(recipe), "--out", str(tmp_path / "run"), "--allow_package", "tests")
    assert result.returncode == 2
    assert f"which process {os.getpid()} is writing to" in result.stderr


def test_processes_of_one_run_share_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(tmp_path):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with locked(tmp_path):
            pass
        assert (tmp_path / ".lock").is_file()


def test_files_are_whole_and_never_go_through_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr("uuid.uuid4", lambda: SimpleNamespace(hex="guessed"))
    (tmp_path / ".a.txt.guessed.tmp").symlink_to(victim)
    with pytest.raises(RunError, match="cannot be written"):
        write_text(tmp_path / "a.txt", "x")
    assert victim.read_text() == "mine"
    write_text(tmp_path / "b/c.txt", "ä")
    assert (tmp_path / "b/c.txt").read_text() == "ä"
    assert len(list((tmp_path / "b").iterdir())) == 1


@pytest.mark.parametrize(
    "place",
    [".lock.pid", "records/generations.0.jsonl", "refiner.tmp", "checkpoints/x/last.ckpt.tmp", "videos", "pending"],
)
def test_a_link_in_a_strangers_folder_is_refused(tmp_path: Path, place: str) -> None:
    victim = tmp_path / "mine"
    victim.write_text("mine, without a line end")
    run = tmp_path / "run"
    (run / place).parent.mkdir(parents=True, exist_ok=True)
    (run / place).symlink_to(victim)
    with pytest.raises(UserError, match="must hold no links"), locked(run):
        pass
    assert victim.read_text() == "mine, without a line end"


def test_the_last_set_of_rows_counts_where_files_have_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, store = Recipe(), TrajectoryStore(tmp_path / "trajectories", ["a", "b"])
    for number, name in enumerate(("one", "two")):
        store.append([make_row(recipe_hash=name)])
        save_recipe(recipe_text(recipe), tmp_path, "collect", name)
        os.utime(tmp_path / f"recipes/{name}.yaml", ns=(number, number))
    assert [row["recipe_hash"] for row in rows_of_recipe(recipe, tmp_path)] == ["two"]
    assert "the last, two, is taken" in capsys.readouterr().out
    (tmp_path / "recipes/two.yaml").write_text("a: [")
    with pytest.raises(RunError, match=r"two.yaml must be the recipe"):
        rows_of_recipe(recipe, tmp_path)


def test_sigterm_ends_at_once_what_watches_nothing() -> None:
    code = (
        "import time\nfrom rapo_lightning.running.interruption import INTERRUPTION\nINTERRUPTION.install()\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) != 0


def test_the_recipe_of_the_data_stays_whatever_command_comes_next(tmp_path: Path) -> None:
    save_recipe("name: first\n", tmp_path, "collect", "abc")
    save_recipe("name: second\n", tmp_path, "evaluate")
    save_recipe("name: third\n", tmp_path, "finetune")
    assert (tmp_path / "recipe.yaml").read_text() == "name: first\n"
    names = {path.name for path in (tmp_path / "recipes").iterdir()}
    assert names == {"abc.yaml", "evaluate.yaml", "finetune.yaml"}
    save_recipe("name: other\n", tmp_path, "collect", "def")
    assert (tmp_path / "recipes/abc.yaml").read_text() == "name: first\n"


def test_a_run_folder_loads_as_what_it_is(tmp_path: Path) -> None:
    save_recipe("name: x\n", tmp_path, "collect")
    TrajectoryStore(tmp_path / "trajectories", ["a", "b"]).append([make_row()])
    arms = [{name: value for name, value in make_row(key).items() if name != "score_b"} for key in "pq"]
    TrajectoryStore(tmp_path / "evaluation/arms/raw", ["a"]).append(arms)
    assert "trajectories" in get_dataset_config_names(str(tmp_path))
    assert len(load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))["train"]) == 1
    loaded = load_dataset(str(tmp_path), "evaluation", cache_dir=str(tmp_path / "cache"))
    assert len(loaded["train"]) == 2


def test_rows_are_found_by_the_recipe_that_made_them(tmp_path: Path) -> None:
    recipe, other = Recipe(name="a"), Recipe(name="a", stage2=Stage2(candidates=2))
    with pytest.raises(UserError, match="needs trajectories. Got none"):
        rows_of_recipe(recipe, tmp_path)
    store = TrajectoryStore(tmp_path / "trajectories", ["a", "b"])
    store.append([make_row(recipe_hash="one")])
    # Rows of schema 1: nothing says whose they are, but there are no others.
    assert len(rows_of_recipe(recipe, tmp_path)) == 1
    store.append([make_row(recipe_hash="two"), make_row("q", recipe_hash="two")])
    with pytest.raises(UserError, match="Got rows of one, two, of which 2 fit"):
        rows_of_recipe(recipe, tmp_path)
    save_recipe(recipe_text(recipe), tmp_path, "collect", "one")
    save_recipe(recipe_text(other), tmp_path, "collect", "two")
    assert [row["recipe_hash"] for row in rows_of_recipe(recipe, tmp_path)] == ["one"]
    assert [row["recipe_hash"] for row in rows_of_recipe(other, tmp_path)] == ["two", "two"]
    with pytest.raises(UserError, match="of which 0 fit"):
        rows_of_recipe(Recipe(seed=3), tmp_path)


def test_ctrl_c_and_sigterm_say_how_to_go_on(tmp_path: Path, language_model: Path) -> None:
    recipe = tiny_recipe(tmp_path, language_model)
    command = [sys.executable, "-m", "rapo_lightning", "collect", str(recipe), "--out", str(tmp_path / "run")]
    for number in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(
            [*command, "--allow_package", "tests"], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        records = tmp_path / "run/records/generations.0.jsonl"
        begun = len(records.read_bytes()) if records.is_file() else 0
        while not (records.is_file() and len(records.read_bytes()) > begun) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 1, told
        assert "run the same command again to go on" in told
        assert "Traceback" not in told
    assert not list((tmp_path / "run").glob(".lock*"))
    assert main(["collect", str(recipe), "--out", str(tmp_path / "run"), "--allow_package", "tests"]) == 0
