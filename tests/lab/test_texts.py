"""What refiners' texts name: `lab.scripts.texts`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rapo_lightning.data.prompts import Prompt
from rapo_lightning.lab.scripts.texts import main, read_texts, row
from tests.lab.test_study import arguments as _study

arguments = _study
"""A recipe's refiner on a tiny language model, as the study's tests make it."""

RIGHT = "A simple animation shows a large red ball rising from the ground, in a green meadow. The camera stays fixed."


def test_texts_are_read_in_the_order_of_their_requests() -> None:
    prompts = [Prompt("a big ruby sphere lifting off"), Prompt("a ruby box")]
    found = read_texts(lambda texts: [RIGHT if "sphere" in text else text for text in texts], prompts, {}, 1)
    assert [prompt for prompt, _, _ in found] == prompts
    assert found[0][2] == {"shape": True, "colour": True, "size": True, "motion": True}
    assert not any(found[1][2].values())
    assert row("r", "g", [right for _, _, right in found])[2:] == ["0.667 [0.000, 1.000]", "0.500", "2"]


def test_what_was_written_down_counts() -> None:
    prompt = Prompt("a cherry going to heaven")
    found = read_texts(
        lambda texts: [RIGHT], [prompt], {prompt.text: {"colour": "red", "motion": "rise", "size": "small"}}
    )
    assert found[0][2] == {"colour": True, "motion": True, "size": False}


@pytest.mark.slow
def test_command(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refiner = Path(arguments[1]).parent / "made/refiner"
    out = tmp_path / "texts.csv"
    assert main([str(refiner), "--limit", "2", "--out", str(out)]) == 0
    assert "| hand-written | " in capsys.readouterr().out
    with out.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4
    assert main([str(tmp_path)]) == 2
    assert "texts: " in capsys.readouterr().err
