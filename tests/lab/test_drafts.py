"""Draft videos: the candidates, the statistics, and the whole on lab-wan with one and two steps."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from rapo_lightning.cli import main as command
from rapo_lightning.data.prompts import Prompt, read_prompts
from rapo_lightning.errors import UserError
from rapo_lightning.lab.reading import read_caption, translated
from rapo_lightning.lab.requests import asked
from rapo_lightning.lab.scripts import draft_videos
from rapo_lightning.lab.scripts.drafts import VALIDATION, main
from rapo_lightning.lab.study.draft_statistics import (
    JUDGE,
    ORACLE,
    SHUFFLED,
    Drafts,
    agreement,
    compared,
    mean_table,
    picked_score,
    same_noise,
)
from rapo_lightning.lab.study.draft_texts import KINDS, candidate_texts, changed_caption
from tests.helpers import ROOT, tiny_recipe

ALLOW = ("--allow_package", "tests")


def test_changed_captions_miss_as_much_as_was_changed() -> None:
    for prompt in read_prompts(str(ROOT / VALIDATION), 80):
        for count in (1, 2, 3):
            text = changed_caption(prompt, count, np.random.default_rng(0))
            scene, reference = read_caption(text), read_caption(prompt.reference)
            assert scene is not None
            assert reference is not None
            wrong = sum(not right for right in translated(prompt.text, text).values())
            assert 1 <= wrong <= count + ("direction" in asked(prompt.text))
            assert len(scene.bodies) == len({body.colour for body in scene.bodies}) == len(reference.bodies)


def test_candidates_come_in_a_fixed_order() -> None:
    prompts = read_prompts(str(ROOT / VALIDATION), 3)
    found = candidate_texts(prompts, 5, lambda requests: [f"caption of {request}" for request in requests])
    assert KINDS[:5] == ("reference", "changed-1", "stage1", "changed-2", "raw")
    for prompt, texts in zip(prompts, found, strict=True):
        assert [texts[0], texts[2], texts[4]] == [prompt.reference, f"caption of {prompt.text}", prompt.text]
        assert len(set(texts)) == 5
    assert [texts[:2] for texts in found] == candidate_texts(prompts, 2, lambda requests: [])
    with pytest.raises(UserError, match="must be 2 to 9"):
        candidate_texts(prompts, 1, lambda requests: [])
    with pytest.raises(UserError, match="references in the captions' style"):
        candidate_texts([Prompt("a red ball", "", "no caption")], 2, lambda requests: [])


def _drafts(noise: float, prompts: int = 60) -> Drafts:
    rng = np.random.default_rng(0)
    quality = rng.random((prompts, 5, 1))
    full = quality + rng.normal(0, 0.02, (prompts, 5, 2))
    few = full + rng.normal(0, noise, (prompts, 5, 2))
    both = {4: few, 25: full}
    return Drafts({ORACLE: both, JUDGE: both}, {4: 0.1, 25: 0.6})


def test_faithful_drafts_reach_the_ceiling_and_shuffled_ones_nothing() -> None:
    found = compared(_drafts(0.0), ORACLE, ORACLE)
    assert found["4"].correlation == pytest.approx(found["25"].correlation)
    assert found["25"].correlation > 0.9
    assert found["25"].winner > 0.85
    control = found[SHUFFLED]
    assert control.correlation_ends[0] < 0 < control.correlation_ends[1]
    assert control.winner_ends[0] < 0.2 < control.winner_ends[1]
    assert same_noise(_drafts(0.0), ORACLE)["4"].correlation == pytest.approx(1)
    noisy = compared(_drafts(0.3), ORACLE, ORACLE)
    assert noisy["4"].correlation_ends[1] < found["25"].correlation_ends[0]
    assert "| 4 | oracle |" in mean_table(_drafts(0.0), KINDS[:5])


def test_ties_are_left_out_or_shared() -> None:
    first = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [np.nan, 1.0, 0.0]])[..., None]
    second = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])[..., None]
    found = agreement(first, second)
    assert (found.prompts, found.told_apart) == (2, 1)
    assert found.winner == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found.correlation == pytest.approx(0.5)
    assert picked_score(first, second)[0] == pytest.approx((1 / 2 + 1 / 3) / 2)
    nothing = agreement(first[1:2], second[1:2])
    assert np.isnan(nothing.correlation)
    assert nothing.told_apart == 0


def test_drafts_are_made_in_parts(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rewriter = tmp_path / "made/refiner"
    recipe = tiny_recipe(tmp_path, language_model, stage3__epochs=1, video_model__init_args__batch_size=8)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("prompt,completion\n" + "".join(f"ball {n},a red ball rolls {n}\n" for n in range(6)))
    made = ["finetune", str(recipe), "--out", str(tmp_path / "made"), "--pairs", str(pairs), "--stage3.pairs", "[]"]
    assert command([*made, *ALLOW]) == 0
    recipe.write_text(f"{recipe.read_text()}stage1: {{rewriter: {rewriter}}}\n")
    out = tmp_path / "out"
    given = ["--out", str(out), "--recipe", str(recipe), "--source", str(ROOT / VALIDATION), "--prompts", "2",
             "--candidates", "5", "--steps", "1", "2", "--judge", "temporal_coherence"]  # fmt: skip
    assert main([*given, "--minutes", "1e-9"]) == 1
    assert "run the same command again to go on" in capsys.readouterr().err
    assert main([*given, "--report"]) == 2
    assert main(given) == 0
    with (out / "readings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({(r["prompt_id"], r["kind"], r["number"], r["steps"]) for r in rows}) == 2 * 5 * 2 * 2
    # All texts of a prompt have the same noise, with any number of steps.
    assert len({(r["prompt_id"], r["seed"]) for r in rows}) == 4
    report = (out / "report.md").read_text()
    assert "## All texts: judge with few steps, oracle with 2 and other noise" in report
    assert "## Without the raw prompt: oracle" in report
    assert (out / "drafts.png").stat().st_size > 1000
    monkeypatch.setattr(draft_videos.Bench, "run", lambda *_: pytest.fail("a video was made twice"))
    assert main(given) == 0
    assert main([*given, "--seed", "1"]) == 2
    assert "continued with the same settings" in capsys.readouterr().err
    assert main([*given, "--judge", "nobody"]) == 2
    assert main([*given, "--steps", "2"]) == 2
