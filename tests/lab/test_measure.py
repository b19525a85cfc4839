from __future__ import annotations

import json
from pathlib import Path

import pytest

from rapo_lightning.lab.degenerate import DEGENERATE
from rapo_lightning.lab.scene import Body, Scene
from rapo_lightning.lab.scripts import measure, measure_verifiers
from rapo_lightning.lab.scripts.judging import Drawing, judge_drawing, read_drawing, shares
from tests.helpers import ROOT

SCENE = Scene((Body("ball", "red", "small"),), "snow", "rest")


def test_drawings_are_judged_as_the_loop_sees_them() -> None:
    verdict = judge_drawing(Drawing(SCENE, 1, prompt="a red ball standing still"))
    assert verdict is not None
    assert verdict.score == 1.0
    assert judge_drawing(Drawing(SCENE, 1, "frozen", "a red ball standing still")) is None
    assert all(read_drawing(Drawing(SCENE, 1)).values())
    assert shares([{"a": True}, {"a": False, "b": True}]) == {"a": 0.5, "b": 1.0}


def test_all_parts_are_measured(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    words = f"measure --prompts 6 --scenes 6 --clips 4 --steps 1 --seeds 2 --batch 6 --out {tmp_path / 'figures.json'}"
    monkeypatch.setattr("sys.argv", words.split())
    measure.main()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["oracle_all_right_on_truth"]["mean"] == figures["oracle_score_truth"]["mean"] == 1.0
    assert figures["oracle_score_unrelated"]["mean"] < 0.5
    assert all(figures[f"degenerate_{name}"]["max"] <= 0.5 for name in DEGENERATE)
    assert figures["reconstruction_psnr_db"]["n"] == 4
    for arm in ("reference", "raw"):
        found = figures[f"oracle_score_{arm}"]
        assert found["n"] == 6
        assert found["mean"] == pytest.approx(sum(found["by_seed"]) / 2, abs=1e-3)


def test_an_unknown_part_is_refused(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["measure", "--parts", "everything"])
    with pytest.raises(SystemExit):
        measure.main()
    assert "invalid choice: 'everything'" in capsys.readouterr().err


def test_verifiers_of_motion_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "figures.json"
    monkeypatch.setattr(
        "sys.argv", ["x", "--parts", "broken", "words", "--scenes", "12", "--known", "20", "--out", str(target)]
    )
    measure_verifiers.main()
    figures = json.loads(target.read_text())
    assert figures["temporal_coherence: true"]["mean"] > 0.8
    assert figures["temporal_coherence: noise_tail"]["mean"] < 0.3
    assert figures["motion_smoothness: stuttering"]["mean"] < 0.2
    assert figures["temporal_coherence: shuffled"]["lower"] > 0.8
    assert figures["motion_named_by_words"]["n"] == 12
