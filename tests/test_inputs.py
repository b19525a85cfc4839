from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, DatasetDict

from rapo_lightning.commands.validate import faults
from rapo_lightning.data.ids import derived_seed, prompt_id
from rapo_lightning.data.prompts import Prompt, read_prompts
from rapo_lightning.data.resources import shipped_recipes
from rapo_lightning.errors import UserError
from rapo_lightning.prompting.chat import Sampling
from rapo_lightning.recipe import Evaluation, Optimizer, Recipe, Stage2, Stage3, components
from rapo_lightning.recipe.components import build, check
from rapo_lightning.recipe.identity import row_hash


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "has no prompt"),
        ("line.txt", b"a ball\n\na cat\n", "empty one in entry 2"),
        ("long.txt", b"x" * 10_000, "Got 10000 in entry 1"),
        ("latin.txt", "caf\xe9".encode("latin-1"), "must be UTF-8"),
        ("columns.csv", b"text,law\na,b\n", "needs a column `prompt`"),
        ("cell.csv", b"prompt,phys_law\n,law\n", "entry 2"),
    ],
)
def test_bad_prompt_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_prompts(str(tmp_path / name))


def test_missing_prompt_file_is_named() -> None:
    with pytest.raises(UserError, match=r"`prompts` must name.*Got 'nowhere.txt'"):
        read_prompts("nowhere.txt")


def test_prompts_keep_order_and_drop_repeats(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("prompt,phys_law\nb,law\na,\nb,law\nb,other\n")
    prompts = read_prompts(str(path))
    assert [(p.text, p.phys_law) for p in prompts] == [("b", "law"), ("a", ""), ("b", "other")]
    assert read_prompts(str(path), limit=1) == prompts[:1]


def test_a_group_is_no_part_of_a_prompts_identity(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("prompt,group\nb,new words\na,\nb,other\n")
    prompts = read_prompts(str(path))
    assert [(p.text, p.group) for p in prompts] == [("b", "new words"), ("a", "")]
    assert prompts[0].id == Prompt("b").id


def test_datasets_are_read_from_their_folder(tmp_path: Path) -> None:
    data = Dataset.from_dict({"prompt": ["a", "b", "c"], "phys_law": [None, "law", None], "other": [1, 2, 3]})
    data.select([2, 1]).save_to_disk(tmp_path / "saved")
    assert [(p.text, p.phys_law) for p in read_prompts(str(tmp_path / "saved"))] == [("c", ""), ("b", "law")]
    (tmp_path / "parts").mkdir()
    data.to_parquet(tmp_path / "parts/0.parquet")
    data.select([0]).map(lambda row: {"prompt": "d"}).to_parquet(tmp_path / "parts/1.parquet")
    assert [p.text for p in read_prompts(str(tmp_path / "parts"))] == ["a", "b", "c", "d"]
    assert [p.text for p in read_prompts(str(tmp_path / "parts/0.parquet"))] == ["a", "b", "c"]


def test_bad_datasets_are_named(tmp_path: Path) -> None:
    data = Dataset.from_dict({"text": ["a"]})
    DatasetDict({"train": data}).save_to_disk(tmp_path / "splits")
    with pytest.raises(UserError, match=r"one of its splits \(train\)"):
        read_prompts(str(tmp_path / "splits"))
    with pytest.raises(UserError, match=r"column `prompt`. Got the columns \['text'\]"):
        read_prompts(str(tmp_path / "splits/train"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="broken.parquet, which is not: "):
        read_prompts(str(tmp_path / "broken.parquet"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="name a folder with parquet files"):
        read_prompts(str(tmp_path / "empty"))


def test_identities_depend_on_content_alone() -> None:
    assert prompt_id("a", "b") == prompt_id("a", "b") != prompt_id("ab", "")
    assert derived_seed(1, "x") != derived_seed(2, "x")
    assert 0 <= derived_seed("x") < 2**31


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_well_formed(name: str) -> None:
    loaded = yaml.safe_load(shipped_recipes()[name].read_text())
    from rapo_lightning.recipe.files import load_recipe

    recipe = load_recipe(shipped_recipes()[name])
    assert recipe.name == loaded["name"] == name
    needed = ["needs your permission"] if recipe.video_model.get("class_path") in components.RUNS_COMMANDS else []
    found = faults(recipe)
    assert len(found) == len(needed)
    assert all(words in fault for words, fault in zip(needed, found, strict=True))


def test_row_hash_sees_what_changes_a_row_and_nothing_else(tmp_path: Path) -> None:
    examples = tmp_path / "examples.csv"
    examples.write_text("prompt,critique,caption\na,b,c\n")
    verifier = {"class_path": "a.B", "init_args": {"workers": 1}}
    base = Recipe(stage2=Stage2(verifiers=[verifier], examples=str(examples)))  # type: ignore[list-item]
    before = row_hash(base)
    same = Recipe(
        name="other",
        prompts="x.txt",
        stage3=Stage3(epochs=1),
        stage2=dataclasses.replace(base.stage2, batch_size=1, save_videos=False, rounds=9, verifiers=[
            {"class_path": "a.B", "init_args": {"workers": 9}}
        ]),
    )  # fmt: skip
    assert row_hash(same) == before
    for other in (
        dataclasses.replace(base, seed=1),
        dataclasses.replace(base, stage2=dataclasses.replace(base.stage2, candidates=2)),
        dataclasses.replace(base, video_model={"class_path": "a.C", "init_args": {}}),
    ):
        assert row_hash(other) != before
    examples.write_text("prompt,critique,caption\na,b,other\n")
    assert row_hash(base) != before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sampling(top_p=0), "Got temperature"),
        (lambda: Stage2(rounds=0), "Got rounds=0"),
        (lambda: Stage3(validation_share=1.0), "Got 1.0"),
        (lambda: Stage2(flow_seconds=0), "Got 0"),
        (lambda: Recipe(limit=-1), "Got -1"),
        (lambda: Evaluation(limit=-1), "Got -1"),
        (lambda: Evaluation(seeds=0), "Got 0, 0 and 0.5"),
        (lambda: Evaluation(arms=["raw", "rwa"]), "Got 'rwa'"),
        (lambda: Evaluation(arms=["raw", "raw"]), "each once"),
        (lambda: Evaluation(arms=["raw"], compare="sspo"), "Got 'sspo'"),
        (lambda: Evaluation(variants={"raw": {}}), "Got 'raw'; rename it"),
        (lambda: Evaluation(variants={"a": {}}, baselines={"a": {}}), "Got 'a'; rename it"),
        (lambda: Stage3(optimizer=Optimizer(batch_size=3, micro_batch_size=2)), "batch_size=3"),
    ],
)
def test_ranges_are_checked(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_components_come_from_the_choices_or_allowed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"Got 'os.system'; name one, or add `--allow_package os`"):
        check({"class_path": "os.system"}, "video_model")
    monkeypatch.setattr(components, "ALLOWED_PACKAGES", ["os", "email", "tests"])
    with pytest.raises(UserError, match="must name a class"):
        check({"class_path": "os.system"}, "video_model")
    # Reached through an allowed package, and of another one: `subprocess` is a module that `os` happens to hold.
    with pytest.raises(UserError, match="which is defined in"):
        check({"class_path": "email.message.BytesIO"}, "video_model")
    with pytest.raises(UserError, match="lacks load, to, generate|lacks generate"):
        check({"class_path": "tests.helpers.WordEmbedder"}, "video_model")


@pytest.mark.parametrize(
    "path",
    [
        "rapo_lightning.data.csv_log.CsvLog",
        "rapo_lightning.models.SentenceEmbedder",
        "sentence_transformers.SentenceTransformer",
        "rapo_lightning.models.NoSuch",
    ],
)
def test_of_our_own_classes_only_the_choices_of_the_field_can_be_named(path: str) -> None:
    with pytest.raises(UserError, match=f"must be one of rapo_lightning.models.DiffusersVideoModel, .*. Got '{path}'"):
        check({"class_path": path}, "video_model")


def test_a_recipe_cannot_ask_for_code_that_comes_with_weights() -> None:
    component = {"class_path": "rapo_lightning.models.SentenceEmbedder", "init_args": {"trust_remote_code": True}}
    with pytest.raises(UserError, match="runs code that comes with weights"):
        check(component, "embedder")  # type: ignore[arg-type]


def test_a_callable_argument_imports_nothing_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "trap_module.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    component = {"class_path": "tests.helpers.Calling", "init_args": {"function": "trap_module.run"}}
    with pytest.raises(UserError, match="not allowed|denied|Does not validate"):
        check(component, "embedder")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", ".hidden", ""])
def test_a_run_is_named_by_one_plain_folder(name: str) -> None:
    with pytest.raises(ValueError, match="`name` must be a plain folder name"):
        Recipe(name=name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"enough": "much"}, "float"), ({"enuf": 0.5}, "enuf")],
)
def test_component_arguments_are_checked(arguments: dict[str, object], message: str) -> None:
    component = {"class_path": "rapo_lightning.verifiers.TextFidelity", "init_args": arguments}
    with pytest.raises(UserError, match=message):
        check(component, "stage2.verifiers[0]")  # type: ignore[arg-type]


def test_components_are_built_with_their_arguments() -> None:
    built = build(
        {"class_path": "rapo_lightning.verifiers.TextFidelity", "init_args": {"enough": 0.3}}, "evaluation.metric"
    )
    assert built.enough == 0.3


def test_what_the_lab_switches_on_is_off_elsewhere() -> None:
    assert Stage2().style_weight == 0
    assert not Recipe().stage1.carry_over
