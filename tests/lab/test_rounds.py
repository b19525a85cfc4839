from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rapo_lightning.data.prompts import Prompt, read_prompts
from rapo_lightning.data.store import Row
from rapo_lightning.data.trajectory import TrajectoryStore
from rapo_lightning.lab.scripts import rounds
from rapo_lightning.recipe.files import load_recipe
from tests.data.test_trajectory import make_row
from tests.helpers import ROOT

NAMES = ["vlm_alignment", "temporal_coherence", "text_fidelity"]


def _row(prompt: Prompt, number: int, score: float, text: str) -> Row:
    scores = {f"score_{name}": score for name in NAMES}
    return make_row(prompt.id, number, source_prompt=prompt.text, prompt=text, **scores)


def test_each_round_is_scored_by_the_best_so_far(tmp_path: Path, monkeypatch, capsys) -> None:
    prompts = read_prompts(ROOT / "recipes/lab/prompts_heldout.csv", 2)
    first, second = prompts
    store = TrajectoryStore(tmp_path / "trajectories", [*NAMES, "a", "b"])
    # The first is right at once and its loop ends; the second is right in round 1 and worse again in round 2.
    store.append(
        [
            _row(first, 0, 1.0, first.reference),
            _row(second, 0, 0.3, "wrong"),
            _row(second, 1, 0.9, second.reference),
            _row(second, 2, 0.5, "worse"),
        ]
    )
    seen: list[list[str]] = []

    def scored(recipe, models, judge, folder, arm, chosen) -> list[Row]:
        texts = arm.texts(chosen)
        seen.append(texts)
        right = [float(text == prompt.reference) for text, prompt in zip(texts, chosen, strict=True)]
        return [{"prompt_id": p.id, "score_lab_oracle": value} for p, value in zip(chosen, right, strict=True)]

    monkeypatch.setattr(rounds, "score_prompts", scored)
    recipe = load_recipe(ROOT / "recipes/lab.yaml")
    found = rounds.score_rounds(recipe, tmp_path, tmp_path, "score_vlm_alignment", prompts)
    assert seen == [
        [first.reference, "wrong"],
        [first.reference, second.reference],
        [first.reference, second.reference],
    ]
    report = rounds.report(found, prompts, rounds.Scored([], [np.zeros(2)], []))
    assert [line["oracle"] for line in report["all"]] == [0.5, 1.0, 1.0]
    assert [line["videos"] for line in report["all"]] == [2, 1, 1]
    assert [line["right"] for line in report["all"]] == [0.5, 1.0, 0.0]
    told = capsys.readouterr().out
    assert "gain 0.5000" in told
    assert "against the other loop 1.0000 [1.0000, 1.0000] of 0.0000" in told


def test_an_unknown_judge_is_named(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path / "trajectories", ["a", "b"])
    prompt = read_prompts(ROOT / "recipes/lab/prompts_heldout.csv", 1)[0]
    store.append([make_row(prompt.id)])
    with pytest.raises(KeyError, match="score_nobody"):
        rounds.score_rounds(load_recipe(ROOT / "recipes/lab.yaml"), tmp_path, tmp_path, "score_nobody", [prompt])
