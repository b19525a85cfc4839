"""`finetune --dry_run`, `--runs` and `export --views` as a user types them, and TRL's trainers on what is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import score_columns
from rapo_lightning.lab.reading import CaptionReader
from rapo_lightning.recipe import Stage3
from rapo_lightning.recipe.files import load_recipe
from rapo_lightning.stage3 import run as training
from rapo_lightning.stage3.pairs import files, load_pairs
from rapo_lightning.stage3.pairs.dry_run import dry_run_text
from rapo_lightning.stage3.pairs.ready import ready_candidates
from tests.helpers import tiny_recipe
from tests.stage3.pairs.rounds import trajectory, views
from tests.stage3.runs import write_rounds

ALLOW = ("--allow_package", "tests")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    reader = {"class_path": "rapo_lightning.lab.reading.CaptionReader"}
    return tiny_recipe(tmp_path_factory.mktemp("recipe"), language_model, stage3__reader=reader)


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_rounds(tmp_path_factory.mktemp("logged") / "run", recipe)
    shutil.copy(recipe, folder / "recipe.yaml")
    return folder


def test_a_dry_run_shows_the_funnel_and_loads_nothing(
    recipe: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "load_causal_model", None)
    before = sorted(run.rglob("*"))
    assert main(["finetune", str(recipe), "--out", str(run), "--dry_run", "true", *ALLOW]) == 0
    told = capsys.readouterr().out
    lines = [line.split() for line in told.splitlines()]
    assert ["all", "20", "10", "1.000"] in lines
    assert ["margin", "10", "10", "1.000"] in lines
    assert "sft: 8 for training, 2 for validation" in told
    assert "unpaired: 16 for training, 4 for validation, 10 of them good" in told
    assert "by rapo_lightning.lab.reading.CaptionReader: 10 of 10, 1.000 of what is named" in told
    assert told.count("  -> a red ball rolls") == 3
    assert "(+0.800)" in told
    assert sorted(run.rglob("*")) == before


def test_a_dry_run_counts_targets_that_name_something_else() -> None:
    rows = trajectory("a red ball", (0.1, 0.1), (0.9, 0.9), (0.2, 0.2), texts=["a blue ball rolls", "a red ball rolls"])
    pairs = [{"filter": "floors", "least": {"a": 0.2}}]
    told = dry_run_text(views(rows, Stage3(pairs=pairs)), CaptionReader(), {"class_path": "x.Reader"})
    lines = [line.split() for line in told.splitlines()]
    assert ["all", "3", "1", "0.667"] in lines
    assert ["floors", "2", "1", "0.500"] in lines
    assert "by x.Reader: 1 of 2, 0.750 of what is named" in told
    assert "all right" not in dry_run_text(views(rows, Stage3(pairs=pairs)), None, {})


def test_several_runs_are_read_together(
    recipe: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "again")
    runs = ["--runs", str(run), str(tmp_path / "again")]
    options = ["--out", str(tmp_path / "out"), "--dry_run", "true", *ALLOW]
    assert main(["finetune", str(recipe), *runs, *options]) == 0
    assert "10 pairs from 10 prompts (40 rounds of run, again" in capsys.readouterr().out
    assert main(["finetune", str(recipe), *runs, str(run), *options]) == 2
    assert "`stage3.runs` names each run once" in capsys.readouterr().err
    assert main(["finetune", str(recipe), *runs, "--pairs", "x.csv", *options]) == 2
    assert "Pairs come from runs or from `--pairs`" in capsys.readouterr().err
    assert main(["finetune", str(recipe), "--runs", str(tmp_path / "none"), *options]) == 2
    assert "which has no recipe.yaml" in capsys.readouterr().err
    assert main(["finetune", str(recipe), f"--runs={run}", *options]) == 0
    assert main(["finetune", str(recipe), "--runs", *options]) == 2
    assert "`--runs` needs run folders" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_filters_from_the_command_line(recipe: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--out", str(run), "--dry_run", "true", *ALLOW]
    pairs = "[{filter: winner}, {filter: floors, least: {a: 0.95}}]"
    assert main(["finetune", str(recipe), "--stage3.pairs", pairs, *options]) == 2
    assert "`stage3.pairs[1]` must name verifiers of the recipe" in capsys.readouterr().err
    assert (
        main(["finetune", str(recipe), "--stage3.pairs", "[{filter: winner}, {filter: words, most: 1}]", *options]) == 2
    )
    assert "Got none: `words` took the last 10, of 10 prompts, of 20 rows in run" in capsys.readouterr().err
    assert main(["finetune", str(recipe), "--stage3.pairs", "[{filter: winer}]", *options]) == 2
    assert "one of averaged, winner, margin" in capsys.readouterr().err


def test_one_pair_is_trained_on_without_validation(recipe: Path, tmp_path: Path) -> None:
    folder = write_rounds(tmp_path / "run", recipe, prompts=1)
    assert main(["finetune", str(recipe), "--out", str(folder), "--stage3.epochs", "1", *ALLOW]) == 0
    card = (folder / "refiner/README.md").read_text()
    assert "1 pairs from 1 prompts (2 rounds of run; left after winner 1, margin 1, words 1); 1 trained on" in card
    assert "| validation loss | not measured (epoch 1, the best of 1)" in card


def test_validate_finds_filters_and_readers_that_are_none(
    language_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(
        tmp_path,
        language_model,
        stage3__pairs=[{"filter": "words", "many": 3}],
        stage3__reader={"class_path": "rapo_lightning.lab.reading.named"},
    )
    assert main(["validate", str(recipe), *ALLOW]) == 2
    told = capsys.readouterr().err
    assert "has 2 faults" in told
    assert "do not fit rapo_lightning.stage3.pairs.Words" in told
    assert (
        "must be one of rapo_lightning.lab.reading.CaptionReader, rapo_lightning.lab.tags.TagReader. Got 'rapo_lightning.lab.reading.named'"
        in told
    )


def test_print_config_shows_filters_that_can_be_read_again(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["finetune", str(recipe), "--print_config", *ALLOW])
    printed = capsys.readouterr().out
    assert "  pairs:\n  - filter: winner\n  - filter: margin\n    least: -1.0\n  - filter: words\n" in printed
    (tmp_path / "printed.yaml").write_text(printed)
    with pytest.raises(SystemExit):
        main(["finetune", str(tmp_path / "printed.yaml"), "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["stage3"] == yaml.safe_load(printed)["stage3"]


def test_a_run_of_an_earlier_version_is_read(recipe: Path, run: Path, tmp_path: Path) -> None:
    kept = yaml.safe_load(recipe.read_text())
    kept["stage3"]["pairs"] = {"margin": 0.2, "floors": {"a": 0.5}, "max_words": 60, "validation_share": 0.2}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(kept))
    stage3 = load_recipe(tmp_path / "old.yaml").stage3
    assert stage3.validation_share == 0.2
    assert stage3.pairs == [
        {"filter": "winner"}, {"filter": "margin", "least": 0.2}, {"filter": "words", "most": 60},
        {"filter": "floors", "least": {"a": 0.5}},
    ]  # fmt: skip


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    (folder / "preference").mkdir()
    (folder / "preference/validation.parquet").write_text("of an earlier export")
    assert main(["export", str(run), "--views", str(folder)]) == 0
    return folder


def test_views_are_parquet_that_plain_datasets_reads(exported: Path, tmp_path: Path) -> None:
    sizes = {}
    for name in ("sft", "preference", "unpaired"):
        files = {split: str(exported / name / f"{split}.parquet") for split in ("train", "validation")}
        loaded = load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
        sizes[name] = {split: len(rows) for split, rows in loaded.items()}
        prompts = [{row["prompt"][1]["content"] for row in rows} for rows in loaded.values()]
        assert not prompts[0] & prompts[1]
        whole = load_dataset(str(exported), name, cache_dir=str(tmp_path))
        assert whole["train"][0] == loaded["train"][0]
    assert sizes == {"sft": {"train": 8, "validation": 2}, "preference": {"train": 8, "validation": 2},
                     "unpaired": {"train": 16, "validation": 4}}  # fmt: skip


def test_views_replace_an_earlier_export_and_no_other_card(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [main(["export", str(run), "--views", str(tmp_path / "views")]) for _ in range(2)] == [0, 0]
    card = tmp_path / "refiner/README.md"
    card.parent.mkdir()
    card.write_text("A refiner.")
    assert main(["export", str(run), "--views", str(card.parent)]) == 2
    assert "whose README.md is of something else; name a new folder" in capsys.readouterr().err
    assert [path.name for path in card.parent.iterdir()] == ["README.md"]
    assert card.read_text() == "A refiner."


def test_exported_pairs_can_be_trained_on_again(
    recipe: Path, run: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--pairs", str(exported / "sft"), "--out", str(tmp_path), "--dry_run", "true", *ALLOW]
    assert main(["finetune", str(recipe), *options]) == 0
    assert "sft: 8 for training, 2 for validation" in capsys.readouterr().out
    again, first = (
        load_pairs(load_recipe(recipe), folder, source).view("sft")["train"]
        for folder, source in ((tmp_path, str(exported / "sft")), (run, ""))
    )
    assert again.to_list() == first.to_list()
    assert not any(score_columns(row) for row in (item.row for item in ready_candidates(str(exported / "sft"))[0]))
    assert main(["finetune", str(recipe), *options[:1], str(exported / "unpaired"), *options[2:]]) == 2
    assert "whose label is false" in capsys.readouterr().err


def test_another_recipe_chooses_other_pairs(recipe: Path, run: Path, language_model: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    every = tiny_recipe(tmp_path / "other", language_model, stage3__pairs=[])
    assert main(["export", str(run), "--views", str(tmp_path / "views"), "--filters", str(every)]) == 0
    rows = [load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "c"))
            for path in (tmp_path / "views/sft").glob("*.parquet")]  # fmt: skip
    assert sum(map(len, rows)) == 20


def test_a_push_is_private_and_says_what_the_hub_says(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Hub:
        def create_repo(self, name: str, **options: Any) -> None:
            calls.append((name, options))

        def upload_folder(self, **options: Any) -> None:
            if len(calls) > 1:
                raise OSError("no route")
            calls.append(("upload", options))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    command = ["export", str(run), "--views", str(tmp_path), "--push", "owner/pairs"]
    assert main(command) == 0
    assert calls[0] == ("owner/pairs", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert (tmp_path / "sft/train.parquet").is_file()
    assert main(command) == 1
    assert "cannot be pushed to 'owner/pairs': no route. Log in" in capsys.readouterr().err
    for wrong in (["--push", "owner/pairs"], ["--views", str(tmp_path), "--push", "pairs"]):
        assert main(["export", str(run), "--csv", str(tmp_path / "x.csv"), *wrong]) == 2
        assert "`--push` needs OWNER/NAME, and `--views FOLDER`" in capsys.readouterr().err
    assert files.FEATURES.keys() == {"sft", "preference", "unpaired", "requests"}


@pytest.mark.parametrize("name", ["SFT", "DPO", "KTO"])
def test_trl_takes_a_view_as_it_is(name: str, exported: Path, language_model: Path, tmp_path: Path) -> None:
    import trl

    view = {"SFT": "sft", "DPO": "preference", "KTO": "unpaired"}[name]
    quiet: dict[str, Any] = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    arguments = getattr(trl, f"{name}Config")(
        str(tmp_path), use_cpu=True, bf16=False, max_steps=1, per_device_train_batch_size=2, **quiet
    )
    rows = load_dataset(
        "parquet", data_files=str(exported / view / "train.parquet"), split="train", cache_dir=str(tmp_path)
    )
    trainer = getattr(trl, f"{name}Trainer")(model=str(language_model), args=arguments, train_dataset=rows)
    trainer.train()
    assert trainer.state.global_step == 1
