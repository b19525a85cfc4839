"""The arms together: each base once, and nothing made again that a setting does not change."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from datasets import load_dataset
from diffusers import DiffusionPipeline
from transformers import AutoModelForCausalLM

from rapo_lightning.cli import main
from rapo_lightning.data.ids import derived_seed
from rapo_lightning.data.prompts import Prompt
from rapo_lightning.data.ranking import best_round
from rapo_lightning.data.resources import find
from rapo_lightning.data.store import read_parts
from rapo_lightning.data.trajectory import by_prompt, read_rows
from rapo_lightning.errors import UserError
from rapo_lightning.evaluation.checks import chance_texts
from rapo_lightning.models import DiffusersVideoModel, ModelPool
from rapo_lightning.stage1.rows import IDENTITY
from rapo_lightning.verifiers import Judgement, View
from relation_graph import build_graph, save_graph
from tests.helpers import WordEmbedder, tiny_recipe
from tests.stage3.runs import write_rounds

ALLOW = ("--allow_package", "tests")
ALL_ARMS = ["raw", "reference", "chance", "style", "words", "stage1", "plain", "refiner", "sspo", "refiner+sspo", "raw_best",
            "blind"]  # fmt: skip
SHOWN = [*ALL_ARMS[:8], "sspo@2", "refiner+sspo@2", "raw@2", "blind@2"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    rows = folder / "rows.csv"
    rows.write_text("Input,verb_obj_word,scenario_word,place\n1,['rolling along'],['calm'],in a dungeon\n")
    save_graph(build_graph([rows], WordEmbedder())[0], folder / "graph")
    return tiny_recipe(
        folder,
        language_model,
        graph=str(folder / "graph"),
        stage1={"instruct": {"max_new_tokens": 4}, "merge": {"max_new_tokens": 4}},
        stage2__rounds=2,
        stage3__epochs=1,
        evaluation__arms=ALL_ARMS,
        evaluation__limit=2,
        evaluation__seeds=2,
        evaluation__baselines={
            "style": {
                "class_path": "rapo_lightning.evaluation.baselines.StyleFrame",
                "init_args": {"prefix": "A video of ", "suffix": "."},
            },
            "words": {"class_path": "rapo_lightning.lab.baselines.Dictionary"},
        },
        evaluation__variants={"plain": {"stage1.threshold": 1.0}},
    )


@pytest.fixture(scope="module")
def trained(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_rounds(tmp_path_factory.mktemp("trained"), recipe)
    assert main(["finetune", str(recipe), "--out", str(folder), *ALLOW]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def counting(monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], list[str]]:
    loads: Counter[str] = Counter()
    made: list[str] = []
    for kind in (DiffusionPipeline, AutoModelForCausalLM):
        load = kind.from_pretrained

        def count(path: Any, *args: Any, _load: Any = load, _kind: Any = kind, **options: Any) -> Any:
            loads[f"{_kind.__name__} {Path(str(path)).name}"] += 1
            return _load(path, *args, **options)

        monkeypatch.setattr(kind, "from_pretrained", count)
    generate = DiffusersVideoModel.generate

    def noting(self: DiffusersVideoModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        made.extend(prompts)
        return generate(self, prompts, seeds)

    monkeypatch.setattr(DiffusersVideoModel, "generate", noting)
    return loads, made


def test_each_base_is_loaded_once_for_all_arms(recipe: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A rewriter on the same base: three users of one language model, beside the video model.
    shutil.copytree(run / "refiner", run / "rewriter")
    fields = yaml.safe_load(recipe.read_text())
    fields["stage1"] |= {"rewriter": str(run / "rewriter"), "faithfulness": -1.0}
    changed = run / "with_rewriter.yaml"
    fields["evaluation"]["variants"] = {"plain": {"graph": "", "stage1.rewriter": str(run / "rewriter")}}
    changed.write_text(yaml.safe_dump(fields))
    loads, _ = counting(monkeypatch)
    assert main(["evaluate", str(changed), "--out", str(run), *ALLOW]) == 0
    assert sorted(loads.values()) == [1, 1], loads
    results = json.loads((run / "results.json").read_text())
    assert list(results["arms"]) == SHOWN
    assert all(arm["n"] == 2 for arm in results["arms"].values())
    assert results["seeds"] == 2
    # Without a graph nothing was retrieved, and the row says so.
    rows = read_parts(run / "evaluation/aligned", IDENTITY)
    assert {row["graph"]: bool(row["places"]) for row in rows} == {fields["graph"]: True, "": False}


def test_further_refiners_are_arms_on_one_base(recipe: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run / "refiner", run / "other")
    loads, _ = counting(monkeypatch)
    given = ["--evaluation.refiners", json.dumps({"same": str(run / "other"), "unused": str(run / "none")})]
    arms = ["--evaluation.arms", "[raw, refiner, same]"]
    assert main(["evaluate", str(recipe), "--out", str(run), *arms, *given, *ALLOW]) == 0
    results = json.loads((run / "results.json").read_text())
    assert list(results["arms"]) == ["raw", "refiner", "same"]
    # The same adapter in another folder: the same texts and videos, and both bases loaded once.
    assert results["arms"]["same"]["mean"] == results["arms"]["refiner"]["mean"]
    assert results["paired"]["same - refiner"]["ci95"] == [0, 0]
    assert sorted(loads.values()) == [1, 1], loads
    videos, scores = (list(csv.DictReader((run / name).open())) for name in ("videos.csv", "scores.csv"))
    assert len(videos) == 3 * 2 * 2
    for line in scores:
        for arm in ("raw", "refiner", "same"):
            of = [row for row in videos if (row["arm"], row["prompt_id"]) == (arm, line["prompt_id"])]
            assert np.mean([float(row["score"]) for row in of]) == pytest.approx(float(line[arm]), abs=1e-5)
            assert len({row["seed"] for row in of}) == 2
            assert arm != "raw" or {row["text"] for row in of} == {line["prompt"]}


def test_a_refiner_that_is_not_there_is_an_error(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--evaluation.refiners", json.dumps({"gone": str(tmp_path / "none")}), "--evaluation.arms", "[raw, gone]"]
    assert main(["evaluate", str(recipe), "--out", str(tmp_path), *given, *ALLOW]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_a_setting_of_stage_2_leaves_raw_and_reference_as_they_are(
    recipe: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = ["--evaluation.arms", "[raw, reference, refiner]"]
    assert main(["evaluate", str(recipe), "--out", str(run), *arms, *ALLOW]) == 0
    before = json.loads((run / "results.json").read_text())
    _, made = counting(monkeypatch)
    options = ["--stage2.candidates", "1", "--stage2.flow_seconds", "0.125", "--stage2.max_words", "9"]
    assert main(["evaluate", str(recipe), "--out", str(run), *arms, *options, *ALLOW]) == 0
    after = json.loads((run / "results.json").read_text())
    assert made == []
    assert before["arms"] == after["arms"]


def test_a_killed_evaluation_goes_on(recipe: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = ["--evaluation.arms", "[raw, reference]"]
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    assert main(["evaluate", str(recipe), "--out", str(whole), *arms, *ALLOW]) == 0
    generate, calls = DiffusersVideoModel.generate, []

    def pulled(self: DiffusersVideoModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        calls.append(prompts)
        if len(calls) == 2:
            raise SystemError("pulled the plug")
        return generate(self, prompts, seeds)

    monkeypatch.setattr(DiffusersVideoModel, "generate", pulled)
    with pytest.raises(SystemError, match="plug"):
        main(["evaluate", str(recipe), "--out", str(run), *arms, *ALLOW])
    monkeypatch.undo()
    assert main(["evaluate", str(recipe), "--out", str(run), *arms, *ALLOW]) == 0
    one, two = (json.loads((folder / "results.json").read_text())["arms"] for folder in (run, whole))
    assert {name: arm["mean"] for name, arm in one.items()} == {name: arm["mean"] for name, arm in two.items()}
    assert not (run / "pending").exists()


def test_short_options_mean_the_evaluations_own(recipe: Path, run: Path) -> None:
    arms = ["--evaluation.arms", "[raw]"]
    assert main(["evaluate", str(recipe), "--out", str(run), "--limit", "1", *arms, *ALLOW]) == 0
    assert json.loads((run / "results.json").read_text())["arms"]["raw"]["n"] == 1


def test_a_named_folder_without_a_refiner_is_an_error(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find("ckpt/lab/refiner") is not None
    assert main(["evaluate", str(recipe), "--out", str(tmp_path), *ALLOW]) == 2
    assert f"Got {tmp_path}, which has no folder `refiner`" in capsys.readouterr().err


def scores(folder: Path) -> dict[str, list[str]]:
    lines = list(csv.DictReader((folder / "scores.csv").open()))
    return {name: [line[name] for line in lines] for name in lines[0]}


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
    options += ["--evaluation.metric", json.dumps({"class_path": "tests.evaluation.test_evaluator.Choosy"})]
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
    fields["evaluation"]["baselines"]["words"]["class_path"] = "tests.evaluation.test_evaluator.Short"
    changed = run / "changed.yaml"
    changed.write_text(yaml.safe_dump(fields))
    arms = ["--evaluation.arms", "[style, words]"]
    assert main(["evaluate", str(changed), "--out", str(run), *arms, *ALLOW]) == 1
    assert "`evaluation.baselines.words` must make one text of each prompt. Got 1 of 2" in capsys.readouterr().err
    rows = read_rows(run / "evaluation/arms/style")
    assert {row["prompt"] for row in rows} == {f"A video of {row['source_prompt']}." for row in rows}
