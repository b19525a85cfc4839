from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml
from datasets import load_dataset

from rapo_lightning.cli import main
from rapo_lightning.data.store import read_parts
from rapo_lightning.recipe.files import load_recipe
from rapo_lightning.recipe.identity import row_hash
from rapo_lightning.stage1.rows import IDENTITY
from tests.helpers import tiny_recipe


def recipe_with(folder: Path, language_model: Path, graph: Path, **changes: object) -> Path:
    stage1 = {"threshold": 0.2, "batch_size": 2, "merge": {"max_new_tokens": 6}, "instruct": {"max_new_tokens": 6},
              "faithfulness": -1.0}  # fmt: skip
    return tiny_recipe(folder, language_model, graph=str(graph), stage1=stage1, **changes)


def aligned(folder: Path) -> dict[str, dict[str, object]]:
    rows = read_parts(folder / "aligned", IDENTITY)
    return {row["prompt_id"]: {k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows}


def test_align_writes_every_intermediate_and_goes_on(tmp_path: Path, language_model: Path, graph: Path) -> None:
    recipe = recipe_with(tmp_path, language_model, graph)
    assert main(["align", str(recipe), "--out", str(tmp_path / "a")]) == 0
    rows = aligned(tmp_path / "a")
    prompts = [line["prompt"] for line in csv.DictReader((tmp_path / "prompts.csv").open())]
    texts = (tmp_path / "a" / "aligned.txt").read_text().splitlines()
    by_source = {row["source_prompt"]: row for row in rows.values()}
    assert texts == [by_source[prompt]["prompt"] for prompt in prompts]
    first = by_source[prompts[0]]
    assert {item["outcome"] for row in rows.values() for item in row["modifiers"]} >= {"chosen", "below threshold"}
    assert len(first["places"]) == 2
    assert first["merges"][-1] == first["augmented"]
    # A random language model's merges lose words, so the modifiers were joined, and the request is all there.
    assert first["augmented"].startswith(prompts[0])
    assert all(row["merge_kinds"] == ["join"] * len(row["merges"]) for row in rows.values())
    assert load_dataset("parquet", data_files=str(tmp_path / "a/aligned/*.parquet"), split="train").num_rows == 6
    # One part lost: only its rows are made anew, in another batch size, and they are the same.
    part = sorted((tmp_path / "a" / "aligned").glob("*.parquet"))[0]
    part.unlink()
    assert main(["align", str(recipe), "--out", str(tmp_path / "a"), "--stage1.batch_size", "5"]) == 0
    assert aligned(tmp_path / "a") == rows


def test_two_processes_make_the_same_rows(tmp_path: Path, language_model: Path, graph: Path) -> None:
    recipe = recipe_with(tmp_path, language_model, graph)
    assert main(["align", str(recipe), "--out", str(tmp_path / "one")]) == 0
    from tests.helpers import run_cli

    done = run_cli("align", str(recipe), "--out", str(tmp_path / "two"), "--trainer.devices", "2",
                   "--allow_package", "tests")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert aligned(tmp_path / "two") == aligned(tmp_path / "one")
    assert (tmp_path / "one/aligned.txt").read_text() == (tmp_path / "two/aligned.txt").read_text()


def test_two_processes_evaluate_alike(tmp_path: Path, language_model: Path, graph: Path) -> None:
    from tests.helpers import run_cli

    recipe = recipe_with(tmp_path, language_model, graph, stage2__start="stage1", stage2__rounds=1)
    arms = ["--evaluation.arms", "[raw, stage1, sspo]"]
    assert main(["evaluate", str(recipe), "--out", str(tmp_path / "one"), *arms]) == 0
    done = run_cli("evaluate", str(recipe), "--out", str(tmp_path / "two"), *arms, "--trainer.devices", "2",
                   "--allow_package", "tests")  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "results.json").read_text())["arms"] for name in ("one", "two"))
    assert list(one) == list(two) == ["raw", "stage1", "sspo@1"]
    assert [arm["mean"] for arm in one.values()] == [arm["mean"] for arm in two.values()]


def test_collect_starts_from_stage_1_if_told(tmp_path: Path, language_model: Path, graph: Path) -> None:
    recipe = recipe_with(tmp_path, language_model, graph, stage2__start="stage1", stage2__rounds=1, limit=3)
    plain = row_hash(load_recipe(recipe_with(tmp_path, language_model, graph, stage2__rounds=1, limit=3)))
    recipe = recipe_with(tmp_path, language_model, graph, stage2__start="stage1", stage2__rounds=1, limit=3)
    assert row_hash(load_recipe(recipe)) != plain
    assert main(["collect", str(recipe), "--out", str(tmp_path / "c")]) == 0
    rows = aligned(tmp_path / "c")
    tables = [pyarrow.parquet.read_table(path).to_pylist() for path in (tmp_path / "c/trajectories").glob("*.parquet")]
    found = {row["prompt_id"]: row for table in tables for row in table}
    assert len(found) == 3
    assert all(found[key]["prompt"] == rows[key]["prompt"] for key in rows)
    assert any(row["prompt"] != row["source_prompt"] for row in found.values())


def test_stage_1_is_an_arm_and_its_discriminator_is_trained(tmp_path: Path, language_model: Path, graph: Path) -> None:
    recipe = recipe_with(tmp_path, language_model, graph)
    assert main(["discriminator", str(recipe), "--out", str(tmp_path / "d")]) == 0
    config = yaml.safe_load((tmp_path / "d/discriminator/discriminator.yaml").read_text())
    assert config["embedder"] == "words"
    assert config["error"] > 0
    arms = ["--evaluation.arms", "[raw, stage1]", "--stage1.discriminator", str(tmp_path / "d/discriminator")]
    assert main(["evaluate", str(recipe), "--out", str(tmp_path / "e"), *arms]) == 0
    results = json.loads((tmp_path / "e/results.json").read_text())
    assert list(results["arms"]) == ["raw", "stage1"]
    assert results["arms"]["stage1"]["n"] == 3
    assert results["arms"]["stage1"]["videos_per_prompt"] == 1
    rows = read_parts(tmp_path / "e/evaluation/aligned", IDENTITY)
    assert all(row["score_instructed"] is not None and row["score_refactored"] is None for row in rows)


def test_a_rewriter_is_trained_on_pairs_and_plugs_in(tmp_path: Path, language_model: Path, graph: Path) -> None:
    captions = tmp_path / "captions.txt"
    lines = Path("recipes/lab/captions_train.txt").read_text().splitlines()[:6]
    captions.write_text("\n".join(lines) + "\n")
    recipe = recipe_with(tmp_path, language_model, graph)
    fields = yaml.safe_load(recipe.read_text())
    fields["stage1"] |= {
        "captions": str(captions),
        "degradations": 2,
        "degrader": {"class_path": "rapo_lightning.lab.degrade.LabDegrader"},
    }
    fields["stage3"]["epochs"] = 1
    recipe.write_text(yaml.safe_dump(fields))
    out = str(tmp_path / "r")
    assert main(["pairs", str(recipe), "--out", out]) == 0
    pairs = list(csv.DictReader((tmp_path / "r/pairs.csv").open()))
    assert len(pairs) == 12
    assert main(["finetune", str(recipe), "--pairs", f"{out}/pairs.csv", "--out", out]) == 0
    vocabulary = (tmp_path / "r/refiner/vocabulary.txt").read_text().split()
    assert "animation" in vocabulary
    rewriter = ["--stage1.rewriter", f"{out}/refiner", "--stage1.carry_over", "true"]
    assert main(["align", str(recipe), "--out", str(tmp_path / "a"), "--limit", "2", *rewriter]) == 0
    rows = list(aligned(tmp_path / "a").values())
    assert all(row["refactored"] and row["choice"] in ("refactored", "original", "instructed") for row in rows)
    # The request has words that this rewriter never saw, so it stands at the end of the caption.
    assert any(row["carried"] and " Also: " in row["refactored"] for row in rows)
    # Without a discriminator a faithful caption stands, and nothing is rewritten by instruction in vain.
    arguments = ["--limit", "2", *rewriter, "--stage1.faithfulness"]
    assert main(["align", str(recipe), "--out", str(tmp_path / "b"), *arguments, "-1"]) == 0
    assert all(row["choice"] == "refactored" and not row["instructed"] for row in aligned(tmp_path / "b").values())
    assert main(["align", str(recipe), "--out", str(tmp_path / "c"), *arguments, "1"]) == 0
    assert all(row["choice"] == "original" and row["instructed"] for row in aligned(tmp_path / "c").values())


def test_rows_written_before_merges_had_a_kind_are_read(tmp_path: Path, language_model: Path, graph: Path) -> None:
    recipe = recipe_with(tmp_path, language_model, graph, limit=3)
    assert main(["align", str(recipe), "--out", str(tmp_path / "a"), "--limit", "2"]) == 0
    (part,) = (tmp_path / "a/aligned").glob("*.parquet")
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(part).drop_columns("merge_kinds"), part)
    assert main(["align", str(recipe), "--out", str(tmp_path / "a")]) == 0
    rows = aligned(tmp_path / "a")
    assert sorted(row["merge_kinds"] is None for row in rows.values()) == [False, True, True]
    assert load_dataset("parquet", data_files=str(tmp_path / "a/aligned/*.parquet"), split="train").num_rows == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--graph", ""], "needs a relation graph, `--graph DIR`, or a rewriter, `--stage1.rewriter DIR`. Got none"),
        (["--graph", "nowhere"], "A graph is a folder with graph.json. Got 'nowhere'"),
        (["--graph", "docs"], "A graph is a folder with graph.json"),
        (["--stage1.rewriter", "nowhere"], "A refiner is a folder"),
        (["--stage1.discriminator", "nowhere"], "`stage1.discriminator` must name a folder"),
        (["--stage1.examples", "nowhere.csv"], "`stage1.examples` must name a CSV"),
        (["--stage1.threshold", "2"], "a threshold in -1..1"),
        (["--embedder.init_args.checkpoint", "x"], "do not fit"),
    ],
)
def test_faults_are_named_before_anything_loads(
    tmp_path: Path,
    language_model: Path,
    graph: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = recipe_with(tmp_path, language_model, graph)
    assert main(["align", str(recipe), "--out", str(tmp_path / "a"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_graph_of_another_embedder_is_refused(
    tmp_path: Path, language_model: Path, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((graph / "graph.json").read_text())
    (graph / "graph.json").write_text(json.dumps({**manifest, "embedder": "another"}))
    recipe = recipe_with(tmp_path, language_model, graph)
    assert main(["align", str(recipe), "--out", str(tmp_path / "a")]) == 2
    assert "embedded by 'another' with 64 dimensions. Got the embedder 'words'" in capsys.readouterr().err


def test_no_place_above_the_threshold_leaves_the_prompt_alone(
    tmp_path: Path, language_model: Path, graph: Path
) -> None:
    recipe = recipe_with(tmp_path, language_model, graph, limit=2)
    options = ["--stage1.threshold", "1.0", "--stage1.instruct.max_new_tokens", "1"]
    assert main(["align", str(recipe), "--out", str(tmp_path / "a"), *options]) == 0
    rows = list(aligned(tmp_path / "a").values())
    assert all(row["augmented"] == row["source_prompt"] and row["places"] and not row["merges"] for row in rows)


def test_pairs_go_on_where_they_stopped(tmp_path: Path, language_model: Path, graph: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("A red ball rolls on a lawn.\nA dog sleeps by a river.\n")
    recipe = recipe_with(tmp_path, language_model, graph)
    fields = yaml.safe_load(recipe.read_text())
    fields["stage1"] |= {
        "captions": str(captions),
        "degradations": 2,
        "degrader": {
            "class_path": "rapo_lightning.stage1.pairs.LanguageModelDegrader",
            "init_args": {"max_new_tokens": 4},
        },
    }
    recipe.write_text(yaml.safe_dump(fields))
    assert main(["pairs", str(recipe), "--out", str(tmp_path / "r")]) == 0
    (requests,) = (tmp_path / "r").glob("requests-*.csv")
    whole, pairs = requests.read_bytes(), (tmp_path / "r/pairs.csv").read_bytes()
    assert whole.count(b"A red ball rolls on a lawn.") == 2
    requests.write_bytes(whole[:-9])
    assert main(["pairs", str(recipe), "--out", str(tmp_path / "r")]) == 0
    assert requests.read_bytes() == whole
    assert (tmp_path / "r/pairs.csv").read_bytes() == pairs
