from __future__ import annotations

from pathlib import Path

import pytest

from relation_graph import GraphError, RowReport, parse_cell, read_rows


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (
            "['standing in a parking lot', 'talking to each other']",
            ("standing in a parking lot", "talking to each other"),
        ),
        ('["at dusk"]', ("at dusk",)),
        ("['']", ()),
        ("[]", ()),
        ("", ()),
        ("['a  b ', '']", ("a b",)),
    ],
)
def test_list_cells_are_python_or_json(cell: str, expected: tuple[str, ...]) -> None:
    assert parse_cell(cell) == expected


@pytest.mark.parametrize("cell", ["['a", "__import__('os').getcwd()", "{'a': 1}", "[1]", "x" * 1_000_000])
def test_other_cells_are_refused_and_never_run(cell: str) -> None:
    with pytest.raises(ValueError, match="cell"):
        parse_cell(cell)


def test_bad_rows_are_counted_with_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text(
        "Input,verb_obj_word,scenario_word,place\n"
        "one,\"['walking']\",\"['at dusk']\",park\n"
        'two,"[\'walking",[],park\n'
        "three,[],[],\n"
    )
    report = RowReport()
    rows = list(read_rows(path, report))
    assert [(row.caption, row.verb_objects, row.places) for row in rows] == [("one", ("walking",), ("park",))]
    assert [line for line, _ in report.bad] == [3, 4]
    assert "1 rows read, 2 bad (line 3:" in str(report)


def test_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("Input,place\na,b\n")
    with pytest.raises(ValueError, match="without verb_obj_word, scenario_word"):
        list(read_rows(path, RowReport()))


def test_a_place_is_a_phrase_or_a_list_of_phrases(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text(
        "Input,verb_obj_word,scenario_word,place\n"
        "one,\"['sitting']\",[''],\"['a  park', 'a bench']\"\n"
        'two,"[\'sitting\']",[],"a park, in autumn"\n'
        "three,[],[''],['']\n"
        "four,[],[]," + "x" * 1_000_000 + "\n"
    )
    report = RowReport()
    rows = list(read_rows(path, report))
    assert [row.places for row in rows] == [("a park", "a bench"), ("a park, in autumn",)]
    assert rows[0].scenarios == ()
    assert [line for line, _ in report.bad] == [4, 5]
    assert "characters" in report.bad[1][1]


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff\xfe", "must be UTF-8"), (None, "Got .*No such file")], ids=["bytes", "missing"]
)
def test_unreadable_files_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "g.csv"
    if content is not None:
        path.write_bytes(b"Input,verb_obj_word,scenario_word,place\n" + content)
    with pytest.raises(GraphError, match=message):
        list(read_rows(path, RowReport()))
