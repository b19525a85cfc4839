"""Text and CSV files that people bring along."""

from __future__ import annotations

from pathlib import Path

import pytest

from rapo_lightning.cli import main
from rapo_lightning.data.tables import read_records, read_table
from rapo_lightning.errors import UserError
from rapo_lightning.prompting.examples import read_examples
from rapo_lightning.stage2.scoring import read_list
from rapo_lightning.stage3.pairs.ready import ready_candidates


def test_short_rows_are_filled_and_long_ones_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfa,b\r\n1\r\n\r\n1,2,3\r\n")
    assert read_table(path, "The file") == (["a", "b"], [{"a": "1", "b": ""}, {"a": "1", "b": "2"}])
    assert list(read_records(path, "The file"))[-1] == (4, ["1", "2", "3"])
    path.write_bytes(b"")
    assert read_table(path, "The file") == ([], [])


def test_a_long_field_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "x" * 200_000 + "\n")
    assert len(read_table(path, "The file")[1][0]["a"]) == 200_000


def test_every_reader_names_a_file_that_is_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("prompt,completion,critique,caption,video\ncafé,b,c,d,e\n".encode("latin-1"))
    message = "must be UTF-8. Got a byte that is not at position 44 of"
    with pytest.raises(UserError, match=message):
        ready_candidates(str(path))
    with pytest.raises(UserError, match=message):
        read_examples(str(path))
    with pytest.raises(UserError, match=message):
        read_list(tmp_path, path)
    assert main(["export", str(path), "--prompts", str(tmp_path / "out")]) == 2
    assert "The CSV of refined prompts must be UTF-8" in capsys.readouterr().err
