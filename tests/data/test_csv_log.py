from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rapo_lightning.data.csv_log import CsvLog
from rapo_lightning.errors import RunError, UserError

ROWS = [["a, b", 'say "hi"'], ["two\nlines", ""], ["last", "one"]]


def test_records_come_back_as_written(tmp_path: Path) -> None:
    CsvLog(tmp_path / "new/log.csv", ["x", "y"]).append(ROWS)
    log = CsvLog(tmp_path / "new/log.csv", ["x", "y"])
    log.append([["more", "1"]])
    assert list(log.rows()) == [*ROWS, ["more", "1"]]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_cut_anywhere_keeps_its_whole_records(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "log.csv"
    CsvLog(path, ["x", "y"]).append(ROWS)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    log = CsvLog(path, ["x", "y"])
    kept = list(log.rows())
    assert kept == ROWS[: len(kept)]
    log.append(ROWS[len(kept) :])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "no line end", "x\n"])
def test_files_of_others_are_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"must have the columns x, y. Got "):
        CsvLog(path, ["x", "y"])
    assert path.read_text() == text


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        CsvLog(tmp_path, ["x"])
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        CsvLog(tmp_path / "file/log.csv", ["x"])
