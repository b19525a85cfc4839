"""Prompts refined file to file: order, repeats, going on, and how much memory it takes."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from rapo_lightning.errors import UserError
from rapo_lightning.models.refiner import Refiner
from rapo_lightning.prompting.answers import Refined
from rapo_lightning.running import refining
from rapo_lightning.running.refining import BATCH, refine_file


class Numbered(Refiner):
    """Answers with the length of the prompt, and remembers what it was asked; may stop after some batches."""

    def __init__(self, name: str = "one", batches: int = 10**9) -> None:
        self.name, self.left = name, batches
        self.asked: list[list[str]] = []

    def identity(self) -> str:
        return self.name

    def refine(self, prompts: Sequence[str]) -> list[Refined]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.asked.append(list(prompts))
        return [
            Refined(text, text, "empty") if "7" in text else Refined(text, f"a {text}, rolling") for text in prompts
        ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("".join(f"ball {number % 50}\n" for number in range(3 * BATCH + 5)))
    return path


def refine(refiner: Refiner, source: Path, target: Path) -> None:
    refine_file(refiner, str(source), target, len(source.read_text().splitlines()))


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_every_line_has_a_row_in_order_repeated_ones_too(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "new/out.csv"
    refine(Numbered(), source, target)
    header, *found = rows(target)
    assert header == ["prompt", "refined", "reason", "refiner"]
    assert [row[0] for row in found] == source.read_text().splitlines()
    assert found[0] == found[50] == ["ball 0", "a ball 0, rolling", "", "one"]
    assert found[7] == ["ball 7", "ball 7", "empty", "one"]
    assert [path.name for path in target.parent.iterdir()] == ["out.csv"]


def test_a_csv_that_was_cut_off_anywhere_is_finished_to_the_same_bytes(source: Path, tmp_path: Path) -> None:
    whole, target = tmp_path / "whole.csv", tmp_path / "out.csv"
    refine(Numbered(), source, whole)
    expected = whole.read_bytes()
    for cut in [0, 5, len(b"prompt,refined,reason,refiner\n"), *range(40, len(expected), 397), len(expected)]:
        target.write_bytes(expected[:cut])
        again = Numbered()
        refine(again, source, target)
        assert target.read_bytes() == expected
        # Batches are those of the unbroken run, so that answers of a batch cannot differ.
        whole_batches = [
            source.read_text().splitlines()[begin : begin + BATCH] for begin in range(0, 3 * BATCH + 5, BATCH)
        ]
        assert again.asked == whole_batches[len(whole_batches) - len(again.asked) :]
    assert not again.asked


def test_a_run_that_is_stopped_keeps_its_batches(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        refine(Numbered(batches=2), source, target)
    assert len(rows(target)) == 1 + 2 * BATCH
    assert refine_file(Numbered(), str(source), target, 0).total() == 3 * BATCH + 5


def test_a_file_that_grew_is_gone_on_with(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    refine(Numbered(), source, target)
    before = target.read_bytes()
    source.write_text(source.read_text() + "a new one\n")
    again = Numbered()
    refine(again, source, target)
    assert target.read_bytes() == before + b'a new one,"a a new one, rolling",,one\n'
    assert len(again.asked) == 1


@pytest.mark.parametrize("line", [0, 40])
def test_another_file_is_not_gone_on_with(source: Path, tmp_path: Path, line: int) -> None:
    target = tmp_path / "out.csv"
    refine(Numbered(), source, target)
    before, lines = target.read_bytes(), source.read_text().splitlines()
    source.write_text("\n".join([*lines[:line], "another", *lines[line + 1 :]]))
    with pytest.raises(UserError, match=rf"Got another one in row {line + 1}; choose another `--output`"):
        refine(Numbered(), source, target)
    source.write_text("\n".join(lines[:line] or ["another"]))
    with pytest.raises(UserError, match="must hold the prompts"):
        refine(Numbered(), source, target)
    assert target.read_bytes() == before


def test_answers_of_another_refiner_stay_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    refine(Numbered("one"), source, target)
    before = target.read_bytes()
    with pytest.raises(
        UserError, match=r"Got 'one' in row 1 where this one is two; choose another `--output` or delete"
    ):
        refine(Numbered("two"), source, target)
    assert target.read_bytes() == before


def test_one_run_at_a_time_writes_to_a_csv(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    with FileLock(f"{target}.lock"), pytest.raises(UserError, match="written by one run at a time"):
        refine(Numbered(), source, target)
    refine(Numbered(), source, target)


def test_sigterm_ends_after_the_batch_in_hand(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Numbered):
        def refine(self, prompts: Sequence[str]) -> list[Refined]:
            refining.INTERRUPTION._note(15, None)
            return super().refine(prompts)

    monkeypatch.setattr(refining.INTERRUPTION, "requested", False)
    target = tmp_path / "out.csv"
    with pytest.raises(UserError, match="run the same command again"):
        refine(Asked(), source, target)
    assert len(rows(target)) == 1 + BATCH


def resident() -> float:
    """Resident memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads Linux's /proc")
@pytest.mark.parametrize("ending", [".txt", ".csv"])
def test_ten_thousand_prompts_take_no_memory(tmp_path: Path, ending: str) -> None:
    """Prompts are 8 MB and answers 40 MB: a run that kept either would be found out."""
    source, count, used = tmp_path / f"in{ending}", 10_000, []
    with source.open("w") as file:
        file.write("prompt\n" if ending == ".csv" else "")
        file.writelines(f"ball {number} " + "rolls on " * 90 + "\n" for number in range(count))

    class Wordy(Numbered):
        def refine(self, prompts: Sequence[str]) -> list[Refined]:
            used.append(resident())
            return [Refined(text, f"{text} " * 5) for text in prompts]

    refine_file(Wordy(), str(source), tmp_path / "out.csv", count)
    resumed = resident()
    reasons = refine_file(Wordy(), str(source), tmp_path / "out.csv", count)
    assert reasons == {"": count}
    assert (tmp_path / "out.csv").stat().st_size > 4e7
    # From the third batch on, when buffers have their size.
    assert max(used[2:]) - used[2] < 4
    assert resident() - resumed < 4
