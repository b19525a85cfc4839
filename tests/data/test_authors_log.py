"""The authors' log: what its lines say, and what becomes of lines that say nothing certain."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rapo_lightning.data.authors_log import LoggedRound, read_log
from rapo_lightning.data.prompts import Prompt, read_all_prompts, read_prompts
from rapo_lightning.errors import UserError

PROMPTS = [Prompt("a ball falls", "gravity"), Prompt("a cat"), Prompt("a ball falls", "gravity"), Prompt("a dog")]


def line(base: int, iteration: int, refined: str, mismatch: str = "") -> list[object]:
    return [f"{base:07d}", iteration, f"results/x/{base:07d}_r{iteration}.mp4", mismatch, refined]


def read(folder: Path, lines: list[list[object]]) -> tuple[list[LoggedRound], list[str]]:
    path = folder / "refined_prompts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        # As the script writes it.
        csv.writer(file).writerows(lines)
    return read_log(path, PROMPTS)


def told(rounds: list[LoggedRound]) -> list[tuple[str, int, str, str]]:
    return [(item.prompt.text, item.round, item.text, item.next_text) for item in rounds]


def test_a_video_is_made_from_the_refined_prompt_before_it(tmp_path: Path) -> None:
    mismatch = "[Physics] It falls\nup.  ||  [VLM] No ball || is seen.\nScore: 2"
    lines = [line(1, 1, "a red ball, it falls"), line(2, 1, "a fat cat"), line(1, 2, "the third\nprompt", mismatch)]
    rounds, remarks = read(tmp_path, lines)
    assert told(rounds) == [
        ("a ball falls", 0, "a ball falls", "a red ball, it falls"),
        ("a ball falls", 1, "a red ball, it falls", "the third\nprompt"),
        ("a cat", 0, "a cat", "a fat cat"),
    ]
    assert rounds[0].prompt.phys_law == "gravity"
    assert (rounds[1].physics, rounds[1].critique) == ("It falls up.", "No ball || is seen. Score: 2")
    assert [item.video for item in rounds] == ["0000001_r1.mp4", "0000001_r2.mp4", "0000002_r1.mp4"]
    assert remarks == []


def test_a_text_of_another_form_is_the_critique_and_windows_paths_are_read(tmp_path: Path) -> None:
    (only,), _ = read(tmp_path, [["2", " 1 ", r"D:\results\2_r1.mp4", "nothing moves", "b"]])
    assert (only.physics, only.critique, only.video) == ("", "nothing moves", "2_r1.mp4")


def test_of_lines_repeated_by_a_second_start_those_count_that_videos_were_made_from(tmp_path: Path) -> None:
    # Started again after three iterations, the script judges the videos anew and makes the fourth from what it says then.
    first = [line(2, number, f"first {number}") for number in (1, 2, 3)]
    again = [line(2, number, f"again {number}") for number in (1, 2, 3, 4)]
    rounds, remarks = read(tmp_path, [*first, *again])
    assert [item.text for item in rounds] == ["a cat", "first 1", "first 2", "again 3"]
    assert rounds[-1].next_text == "again 4"
    assert len(remarks) == 1
    assert "Got 3 more than iterations." in remarks[0]


def test_what_follows_a_gap_is_left_out_and_said(tmp_path: Path) -> None:
    gap = [line(1, 1, "b"), line(1, 3, "d"), line(1, 4, "e")]
    empty = [line(2, 1, " "), line(2, 2, "c")]
    headless = [line(4, 2, "c")]
    rounds, remarks = read(tmp_path, [*gap, *empty, *headless])
    assert told(rounds) == [("a ball falls", 0, "a ball falls", "b"), ("a cat", 0, "a cat", "")]
    assert [remark.split(":")[0] for remark in remarks] == [
        "Iterations 3, 4 of prompt 1 are left out", "Iterations 2 of prompt 2 are left out",
        "Iterations 2 of prompt 4 are left out",
    ]  # fmt: skip
    assert [remark.split("Got ")[1] for remark in remarks] == [
        "no iteration 2.", "an empty refined prompt of iteration 1.", "no iteration 1."
    ]  # fmt: skip


def test_a_prompt_that_the_input_has_twice_is_taken_once(tmp_path: Path) -> None:
    rounds, (remark,) = read(tmp_path, [line(1, 1, "b"), line(3, 1, "c"), line(4, 1, "d")])
    assert [item.prompt.text for item in rounds] == ["a ball falls", "a dog"]
    assert remark.startswith("Prompt 3 is left out: it is that of row 1")


def test_a_last_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("0000001,1,a.mp4,m,b\n0000001,2,a")
    rounds, (remark,) = read_log(path, PROMPTS)
    assert len(rounds) == 1
    assert "Got 3 columns." in remark
    path.write_text('0000001,1,a.mp4,m,b\n0000001,2,a.mp4,"half a mism')
    assert len(read_log(path, PROMPTS)[0]) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Got the empty file"),
        (b"\n\n", "Got the empty file"),
        (b"base_name,iter_idx,video_file,mismatch,refined_prompt\n", "there is no header. Got 'base_name' and 'iter_idx' in line 1"),
        (b"0000001,1,a.mp4,b\n0000001,2,a.mp4,m,b\n", "has 5 columns .* Got 4 in line 1"),
        (b"0000001,1,a.mp4,m,b,c\n", "has 5 columns .* Got 6 in line 1"),
        (b"0000001,one,a.mp4,m,b\n", "Got '0000001' and 'one' in line 1"),
        (b"0000001,0,a.mp4,m,b\n", "Got '0000001' and '0' in line 1"),
        (b"0000001,1,a.mp4,m,b\n0000009,1,a.mp4,m,b\n", "Got 9 in line 2 .* and 4 prompts"),
        ("0000001,1,a.mp4,café,b\n".encode("latin-1"), "must be UTF-8. Got a byte that is not at position 19"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_log_is_one_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_log(tmp_path / "log.csv", PROMPTS)


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Got '.*none.csv', which is no file"):
        read_log(tmp_path / "none.csv", PROMPTS)


def test_the_input_of_the_authors_script_is_a_prompt_file(tmp_path: Path) -> None:
    path = tmp_path / "examples.csv"
    path.write_text(
        'captions,phys_law\na ball,"Due to gravity, it falls."\n\na cat,\na ball,"Due to gravity, it falls."\n'
    )
    assert [(item.text, item.phys_law) for item in read_prompts(str(path))] == [
        ("a ball", "Due to gravity, it falls."), ("a cat", "")
    ]  # fmt: skip
    assert len(read_all_prompts(str(path))) == 3
    # Where both are there, the column that is documented counts.
    path.write_text("captions,prompt\nno,yes\n")
    assert [item.text for item in read_prompts(str(path))] == ["yes"]
