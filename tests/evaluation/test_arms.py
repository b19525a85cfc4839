"""What arms are chosen and scored on, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import load_dataset

from rapo_lightning.cli import main
from rapo_lightning.data.ids import derived_seed
from rapo_lightning.data.prompts import Prompt
from rapo_lightning.data.ranking import best_round
from rapo_lightning.data.trajectory import by_prompt, read_rows
from rapo_lightning.errors import UserError
from rapo_lightning.evaluation.checks import chance_texts
from rapo_lightning.models import ModelPool
from rapo_lightning.verifiers import Judgement, View
from tests.evaluation.arms import ALLOW, counting, scores


def seeds_of(folder: Path, seed: int, count: int) -> set[int]:
    identities = {row["prompt_id"] for row in read_rows(folder)}
    return {derived_seed(seed, i, *([number] if number else [])) for i in identities for number in range(count)}


def test_nothing_is_chosen_on_the_videos_that_are_scored(recipe: Path, run: Path) -> None:
    arms = ["--evaluation.arms", "[raw, sspo, blind, raw_best]"]
    assert main(["evaluate", str(recipe), "--out", str(run), *arms, *ALLOW]) == 0
    found = json.loads((run / "results.json").read_text())
    chosen = {arm: run / f"evaluation/loop-{arm}/trajectories" for arm in ("sspo", "blind", "raw_best")}
    for arm, folder in chosen.items():
        seeds = 2 if arm == "raw_best" else 1
        assert {row["seed"] for row in read_rows(folder)} == seeds_of(folder, 0, seeds), arm
        scored = run / "evaluation/arms" / arm
        assert {row["seed"] for row in read_rows(scored)} == seeds_of(scored, 1000, 2), arm
    # More seeds of the user's prompt find a better video and no better prompt.
    assert scores(run)["raw@2"] == scores(run)["raw"]
    for arm, shown in (("sspo", "sspo@2"), ("blind", "blind@2"), ("raw_best", "raw@2")):
        best = [best_round(rounds)["score_lab_oracle"] for rounds in by_prompt(read_rows(chosen[arm])).values()]
        assert found["arms"][shown]["picked"] == pytest.approx(np.mean(best)), arm
    assert "picked" not in found["arms"]["raw"]
    blind = read_rows(chosen["blind"])
    assert all((row["prompt"] == row["source_prompt"]) == (row["round"] == 0) for row in blind)
    assert all(row["prompt"] == row["source_prompt"] for row in read_rows(chosen["raw_best"]))


def test_one_more_seed_makes_no_other_video_again(recipe: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = ["--evaluation.arms", "[raw]"]
    assert main(["evaluate", str(recipe), "--out", str(run), *arms, *ALLOW]) == 0
    rows = read_rows(run / "evaluation/arms/raw")
    means = {i: np.mean([row["score_lab_oracle"] for row in g]) for i, g in by_prompt(rows).items()}
    found = scores(run)
    assert [float(score) for score in found["raw"]] == pytest.approx([means[i] for i in found["prompt_id"]], abs=1e-5)
    _, made = counting(monkeypatch)
    assert main(["evaluate", str(recipe), "--out", str(run), *arms, "--evaluation.seeds", "3", *ALLOW]) == 0
    assert sorted(made) == sorted(found["prompt"])


def test_chance_is_the_reference_of_another_prompt() -> None:
    prompts = [Prompt(name, reference=text) for name, text in (("a", "x"), ("b", "x"), ("c", "y"))]
    assert chance_texts(prompts) == {prompts[0].id: "y", prompts[1].id: "y", prompts[2].id: "x"}
    with pytest.raises(UserError, match="Got 2 with one reference"):
        chance_texts(prompts[:2])


class Choosy:
    """A metric that has no score for prompts of a kind, as one that does not understand them."""

    name = "choosy"

    def judge(self, views: Sequence[View], models: ModelPool) -> list[Judgement]:
        return [Judgement(None if "globe" in view.source_prompt else 0.5, "") for view in views]


class Short:
    """A baseline that forgets a prompt."""

    def texts(self, prompts: Sequence[Prompt], models: ModelPool) -> list[str]:
        return [prompt.text for prompt in prompts[1:]]


def test_prompts_that_the_metric_does_not_score_count_for_nothing(
    recipe: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "grouped.csv"
    prompts.write_text("prompt,group\na ball,one\nno globe,two\na box,two\n")
    options = ["--evaluation.arms", "[raw, style]", "--prompts", str(prompts), "--limit", "0"]
    options += ["--evaluation.metric", json.dumps({"class_path": "tests.evaluation.test_arms.Choosy"})]
    assert main(["evaluate", str(recipe), "--out", str(run), *options, *ALLOW]) == 0
    found = json.loads((run / "results.json").read_text())
    assert (found["not_scored"], found["arms"]["raw"]["n"], found["arms"]["raw"]["mean"]) == (1, 2, 0.5)
    assert [block["not_scored"] for block in found["groups"].values()] == [0, 1]
    assert scores(run)["style"] == ["0.5", "", "0.5"]
    told = capsys.readouterr().out
    assert "1 of 3 prompts are left out of every arm: 1 have no score by choosy in any ('no globe'" in told
    # Arms that another metric scores later still load together with these.
    assert main(["evaluate", str(recipe), "--out", str(run), "--evaluation.arms", "[raw, reference]", *ALLOW]) == 0
    loaded = load_dataset(str(run), "evaluation", cache_dir=str(tmp_path / "cache"))["train"]
    assert {"score_choosy", "score_lab_oracle"} <= set(loaded.column_names)
    assert loaded.num_rows == 3 * 2 * 2 + 2 * 2 * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--evaluation.arms", "[raw, dictionary]"], "`evaluation.arms` must name some of raw, reference, chance"),
        (["--evaluation.variants", '{"plain": {"stage1.topk": 1}}'], "`evaluation.variants.plain` does not fit"),
        (["--evaluation.variants", '{"plain": {"stage1.topk_num": "many"}}'], "stage1.topk_num"),
        (["--evaluation.variants", '{"plain": {"seed": 1}}'], "can set `graph` and the fields of `stage1`. Got 'seed'"),
        (["--evaluation.seed", "0"], "`evaluation.seed` must be another"),
        (["--evaluation.baselines.style.class_path", "os.system"], "must be one of"),
        (
            ["--evaluation.baselines.style.class_path", "rapo_lightning.evaluation.baselines.Restated"],
            "`evaluation.baselines[style]` needs a `vision_language_model`",
        ),
        (["--limit", "1"], "The arm `chance` needs prompts with different references"),
    ],
)
def test_faults_of_arms_are_named_before_models_load(
    recipe: Path, run: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    loads, _ = counting(monkeypatch)
    fields = yaml.safe_load(recipe.read_text())
    if options[0].startswith("--evaluation.baselines"):
        fields["evaluation"]["baselines"]["style"]["class_path"] = options.pop()
        options.clear()
    changed = run / "changed.yaml"
    changed.write_text(yaml.safe_dump(fields))
    assert main(["evaluate", str(changed), "--out", str(run), *options, *ALLOW]) == 2
    assert message in capsys.readouterr().err
    assert not loads


def test_a_baseline_makes_a_text_of_each_prompt(recipe: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = yaml.safe_load(recipe.read_text())
    fields["evaluation"]["baselines"]["words"]["class_path"] = "tests.evaluation.test_arms.Short"
    changed = run / "changed.yaml"
    changed.write_text(yaml.safe_dump(fields))
    arms = ["--evaluation.arms", "[style, words]"]
    assert main(["evaluate", str(changed), "--out", str(run), *arms, *ALLOW]) == 1
    assert "`evaluation.baselines.words` must make one text of each prompt. Got 1 of 2" in capsys.readouterr().err
    rows = read_rows(run / "evaluation/arms/style")
    assert {row["prompt"] for row in rows} == {f"A video of {row['source_prompt']}." for row in rows}
