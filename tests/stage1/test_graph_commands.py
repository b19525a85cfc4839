from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rapo_lightning.cli import main


def test_extraction_goes_on_and_reads_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rapo_lightning.running import pool
    from rapo_lightning.stage1 import extract

    monkeypatch.setattr(extract, "_AT_ONCE", 4)
    monkeypatch.setattr(pool, "fetch_models", lambda *_: None)
    captions = Path("recipes/lab/captions_train.txt").read_text().splitlines()[:9]
    source, target = tmp_path / "c.txt", tmp_path / "g.csv"
    source.write_text("\n".join(captions) + "\n")
    arguments = ["graph", "extract", "lab", "--captions", str(source), "--out", str(target)]
    assert main(arguments) == 0
    whole = target.read_text()
    # Three rows and half of the fourth, as a kill leaves them.
    target.write_text("".join(whole.splitlines(keepends=True)[:5])[:-20])
    assert main(arguments) == 0
    assert target.read_text() == whole
    source.write_text("\n".join(captions[1:]) + "\n")
    assert main(arguments) == 2
    assert "must have the same captions" in capsys.readouterr().err
    assert target.read_text() == whole
    assert [row["Input"] for row in csv.DictReader(target.open())] == captions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "`graph` takes one of build, add"),
        (["grow"], "Got 'grow'"),
        (["build", "nowhere.csv", "--out", "x"], "Got 'nowhere.csv', which is no file"),
        (["info", "nowhere"], "A graph is a folder with graph.json"),
        (["info", "relation_graph/graph_data/lab", "--place", "mars"], "no such place. Got 'mars'"),
        (["extract", "lab", "--captions", "nowhere.txt", "--out", "x"], "Got 'nowhere.txt', which is no file"),
    ],
)
def test_graph_faults_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_info_lists_hubs_and_draws(tmp_path: Path, graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "info", str(graph), "--place", "IN the dark", "--draw", str(tmp_path / "n.svg")]) == 0
    shown = capsys.readouterr().out
    assert "2 captions, 2 places, 3 verb_objects, 1 scenarios" in shown
    assert "going round and round in circles" in shown
    assert (tmp_path / "n.svg").stat().st_size > 1000
