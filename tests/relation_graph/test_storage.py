from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rapo_lightning.cli import main
from rapo_lightning.commands import graph as graph_commands
from relation_graph import GraphError, build_graph, graph_writer, load_graph, save_graph, still_to_add
from tests.helpers import WordEmbedder
from tests.relation_graph.test_graph import ROWS, make_graph, same, write_csv


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def killed(work: Callable[[], object], step: int) -> bool:
    """Runs work in a process that is killed before its n-th rename, removal or whole file; whether it came to that."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(call: Callable[..., object]) -> Callable[..., object]:
            def wrapper(*arguments: object, **options: object) -> object:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **options)

            return wrapper

        os.replace, shutil.rmtree, np.save = counted(os.replace), counted(shutil.rmtree), counted(np.save)  # type: ignore[assignment]
        os.unlink, os.mkdir = counted(os.unlink), counted(os.mkdir)  # type: ignore[assignment]
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_commands, "_encoder", lambda name: WordEmbedder())


@pytest.mark.usefixtures("words")
@pytest.mark.parametrize("action", ["build", "add"])
def test_a_command_killed_at_any_step_and_run_again_gives_the_same_graph(tmp_path: Path, action: str) -> None:
    one, two = write_csv(tmp_path / "1.csv", ROWS[:1]), write_csv(tmp_path / "2.csv", ROWS[1:])
    place, begun = tmp_path / "g", tmp_path / "begun"
    assert main(["graph", "build", str(one), "--out", str(begun)]) == 0
    arguments = ["build", str(two), "--out", str(place)] if action == "build" else ["add", str(place), str(two)]

    def start() -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(begun, place)

    start()
    assert main(["graph", *arguments]) == 0
    expected, step, kills = bytes_of(place), 0, 0
    while True:
        start()
        step += 1
        if not killed(lambda: main(["graph", *arguments]), step):
            break
        kills += 1
        assert load_graph(place).captions in (1, 2, 3), step
        assert main(["graph", *arguments]) == 0
        assert bytes_of(place) == expected, step
        assert hidden(tmp_path) == [], step
    assert kills > 20
    assert hidden(tmp_path) == []


def test_a_graph_moved_away_by_a_killed_writer_is_taken_back(tmp_path: Path) -> None:
    save_graph(make_graph(ROWS), tmp_path / "g")
    (tmp_path / "g").rename(tmp_path / ".g.previous")
    (tmp_path / ".g.incoming").mkdir()
    (tmp_path / ".g.lock").touch()
    assert same(load_graph(tmp_path / "g"), make_graph(ROWS))
    assert hidden(tmp_path) == []


def test_one_writer_at_a_time_and_its_files_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    save_graph(make_graph(ROWS[:1]), folder)
    with graph_writer(folder) as save:
        (tmp_path / ".g.incoming").mkdir()
        with pytest.raises(GraphError, match="one command at a time. Got .*another one is writing"):
            save_graph(make_graph(ROWS), folder)
        assert load_graph(folder).captions == 1
        assert (tmp_path / ".g.incoming").is_dir()
        (tmp_path / ".g.incoming").rmdir()
        save(make_graph(ROWS))
    assert load_graph(folder).captions == 3
    assert hidden(tmp_path) == []


def test_a_failed_writer_leaves_the_old_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "g"
    save_graph(make_graph(ROWS[:1]), folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(GraphError, match="cannot be written to .*: No space left on device"):
            save_graph(make_graph(ROWS), folder)
    assert same(load_graph(folder), make_graph(ROWS[:1]))
    assert hidden(tmp_path) == []


@pytest.mark.usefixtures("words")
def test_a_csv_is_added_once_unless_the_graph_is_to_hold_it_more_often(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = write_csv(tmp_path / "1.csv", ROWS[:1]), write_csv(tmp_path / "2.csv", ROWS[1:])
    place, copy = tmp_path / "g", tmp_path / "copy.csv"
    shutil.copy(two, copy)
    assert main(["graph", "build", str(one), "--out", str(place)]) == 0
    for csv in (two, two, copy, one):
        assert main(["graph", "add", str(place), str(csv)]) == 0
    assert load_graph(place).captions == 3
    assert "copy.csv: the graph holds it already; to add it once more, say with `--times`" in capsys.readouterr().out
    for _ in range(2):
        assert main(["graph", "add", str(place), str(two), "--times", "2"]) == 0
        assert load_graph(place).captions == 5
    assert [source.name for source in load_graph(place).sources] == ["1.csv", "2.csv", "2.csv"]
    both, _ = build_graph([one, two, two], WordEmbedder())
    save_graph(both, tmp_path / "at once")
    assert bytes_of(tmp_path / "at once") == bytes_of(place)
    assert main(["graph", "add", str(place), str(two), "--times", "0"]) == 2
    assert "at least once. Got 0 for `times`" in capsys.readouterr().err
    with pytest.raises(GraphError, match="Got nowhere.csv: No such file"):
        still_to_add([Path("nowhere.csv")], both)


def test_a_graph_written_before_csvs_were_remembered_opens(tmp_path: Path) -> None:
    save_graph(make_graph(ROWS), tmp_path / "g")
    manifest = json.loads((tmp_path / "g/graph.json").read_text())
    del manifest["sources"]
    (tmp_path / "g/graph.json").write_text(json.dumps(manifest))
    assert load_graph(tmp_path / "g").sources == []


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    with pytest.raises(GraphError, match="has none"):
        load_graph(folder)
    save_graph(make_graph(ROWS), folder)
    cut = folder / "place.vectors.npy"
    cut.write_bytes(cut.read_bytes()[:-4])
    with pytest.raises(GraphError, match=r"not whole: place.vectors.npy has \d+ bytes instead of"):
        load_graph(folder)
    cut.unlink()
    with pytest.raises(GraphError, match="place.vectors.npy is missing"):
        load_graph(folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(GraphError, match="holds other files"):
        save_graph(make_graph(ROWS), other)
    assert (other / "notes.txt").read_text() == "mine"
    with pytest.raises(GraphError, match="cannot be written to .*: Not a directory"):
        save_graph(make_graph(ROWS), other / "notes.txt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "must be version 1. Got 99 in"),
        ({"files": []}, "Got no usable files in it"),
        ({"files": {"place.norms.npy": 3}}, "Got no usable place.phrases.arrow, "),
        ({"captions": "many", "embedder": None}, "Got no usable embedder, captions in it"),
        ({"nodes": {"place": 7, "verb_object": 3, "scenario": 2}}, "Got place, place_verb_object, place_scenario in"),
        ({"nodes": {}}, "is damaged. Got \"'place'\""),
        ({"dimensions": 3}, "of another size"),
        ({"sources": [{"path": "x"}]}, "is damaged. Got .*unexpected keyword"),
    ],
)
def test_damaged_manifests_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    save_graph(make_graph(ROWS), tmp_path / "g")
    path = tmp_path / "g/graph.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(GraphError, match=message):
        load_graph(tmp_path / "g")


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff\xfe", b"{}", b"7"])
def test_what_is_no_manifest_is_named(tmp_path: Path, content: bytes) -> None:
    save_graph(make_graph(ROWS), tmp_path / "g")
    (tmp_path / "g/graph.json").write_bytes(content)
    with pytest.raises(GraphError, match="is no graph manifest. Got "):
        load_graph(tmp_path / "g")


@pytest.mark.parametrize("name", ["place.vectors.npy", "scenario.phrases.arrow", "place_scenario.offsets.npy"])
def test_files_of_the_right_size_with_other_contents_are_named(tmp_path: Path, name: str) -> None:
    save_graph(make_graph(ROWS), tmp_path / "g")
    path = tmp_path / "g" / name
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(GraphError, match="is damaged. Got"):
        load_graph(tmp_path / "g")
