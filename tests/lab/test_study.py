"""The study from end to end, with tiny stand-ins for all models but the video model, and its parts."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from rapo_lightning.cli import main as command
from rapo_lightning.data.prompts import read_prompts
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.lab.labels import parse_asked
from rapo_lightning.lab.reading import read_caption
from rapo_lightning.lab.scripts.study import main
from rapo_lightning.lab.study.pairs import permuted, write_subset
from rapo_lightning.lab.study.prompts import HELDOUT, WRITTEN, draw_prompts, held_out
from rapo_lightning.lab.study.runner import Deadline, read_done, run_steps
from rapo_lightning.lab.study.scale import FULL, REGIMES, TINY, Scale
from rapo_lightning.lab.study.settings import BEST, PLAIN, before, needed, settings
from rapo_lightning.lab.study.steps import Step
from rapo_lightning.lab.study.trainings import training_fields
from rapo_lightning.running.interruption import INTERRUPTION
from rapo_lightning.stage3.pairs.filter import plain
from tests.helpers import ROOT, tiny_recipe

ALLOW = ("--allow_package", "tests")
SMALL = Scale(
    {"known": (4,), "unknown": (4, 4)}, (3,), 3, 3, 2, 1, 2, (2, 2), 1, 1, 1, 12, ("sft+grpo",), 4, 4, (1, 1), ({"filter": "words"},),
    hindsight=0.0, closed=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> list[str]:
    folder = tmp_path_factory.mktemp("study")
    recipe = tiny_recipe(
        folder, language_model, stage2__rounds=2, stage2__candidates=1, stage3__epochs=1, stage3__lora={"r": 2, "alpha": 2, "dropout": 0.0},
        stage1={"rewriter": str(folder / "made/refiner"), "instruct": {"max_new_tokens": 4}, "faithfulness": -1.0},
        # A random model makes nothing better, so that all rounds stay.
        stage3__pairs=[{"filter": "words"}, {"filter": "floors", "least": {"temporal_coherence": 0.0}}],
        stage3__validation_share=0.5,
    )  # fmt: skip
    pairs = folder / "pairs.csv"
    pairs.write_text("prompt,completion\n" + "".join(f"ball {n},a red ball rolls {n}\n" for n in range(6)))
    made = ["finetune", str(recipe), "--out", str(folder / "made"), "--pairs", str(pairs), "--stage3.pairs", "[]"]
    assert command([*made, "--stage1.rewriter", "", *ALLOW]) == 0
    return ["--out", str(folder / "out"), "--tiny", "--recipe", str(recipe), *ALLOW]


@pytest.mark.slow
def test_all_of_it_runs_in_parts_and_nothing_twice(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rapo_lightning.lab.scripts.study.TINY", SMALL)
    folder = Path(arguments[1])
    assert main([*arguments, "--minutes", "0.15"]) == 1
    assert "again to go on" in capsys.readouterr().err
    begun = read_done(folder)
    assert not (folder / "report.md").exists()
    # Not by `monkeypatch`, which would bring the request back.
    INTERRUPTION.requested = False
    assert main(arguments) == 0
    done = read_done(folder)
    assert all(done[name] == step for name, step in begun.items() if step["identity"])
    # No video is as coherent as that floor asks for, and the study goes on.
    assert [name for name, step in done.items() if step["left_out"]] == [
        "finetune-known.floor-0.9.s0", "finetune-unknown.floor-0.7.s0",
    ]  # fmt: skip
    report, page = json.loads((folder / "report.json").read_text()), (folder / "report.md").read_text()
    for regime in REGIMES:
        names = {item.name for item in settings(SMALL, regime)} - {BEST, "floor-0.9", "floor-0.7"}
        assert {"refiner", "refiner@2", "refiner+sspo@2", "sspo@2", "blind@2", *names} <= set(report[regime]["arms"])
        assert set(report[regime]["groups"]) == {"new wording", "trained wording", "hand-written"}
        assert all(arm["n"] == 3 for arm in report[regime]["arms"].values())
        assert (folder / f"arms-{regime}.png").stat().st_size > 1000
        assert (folder / f"factors-{regime}.png").stat().st_size > 1000
    assert {"stage1", "rewriter", "dictionary"} <= set(report["known"]["arms"])
    assert (folder / "prompts-known.png").is_file()
    assert "Left out, since there was nothing to train on, or no training: floor-0.9." in page
    assert "`refiner+sspo@2` minus `refiner@2`" in page
    capsys.readouterr()
    assert main(arguments) == 0
    assert "==" not in capsys.readouterr().out


def test_some_settings_alone(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--settings", "best", "targets-reference", "--regimes", "known", "--list"]) == 0
    steps = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert [name for name in steps if name.startswith("finetune")] == [
        "finetune-known.best.s0", "finetune-known.targets-reference.s0-pairs", "finetune-known.targets-reference.s0",
    ]  # fmt: skip
    assert [name for name in steps if name.startswith("collect")] == ["collect-known-stage1-thesaurus-8"]
    assert main([*arguments, "--settings", "rest", "--list"]) == 2
    assert "no such setting. Got rest; take some of adapter-rewriter, best," in capsys.readouterr().err


def test_later_cycles_bring_those_before(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main([*arguments, "--settings", "best", "--regimes", "unknown", "--parts", "collect", "finetune", "--list"])
        == 0
    )
    names = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    wanted = ["finetune-unknown.cycles-1.s0", "collect-unknown-cycle-2", "finetune-unknown.best.s0"]
    assert [name for name in names if name in wanted] == wanted
    table = settings(FULL, "unknown")
    assert [item.name for item in needed(table, [BEST])] == [BEST, "cycles-1", "cycles-2"]
    assert needed(table, []) == table
    assert before(table, table[0], 2).name == "cycles-1"
    # Where captions are known the cycles go on from the smaller collection's refiner.
    known = settings(FULL, "known")
    assert [item.name for item in needed(known, ["cycles-3"])] == ["prompts-2500", "cycles-2", "cycles-3"]
    assert [item.name for item in needed(known, ["objective-sft-grpo"])] == [PLAIN, "objective-sft-grpo"]


def test_some_steps_alone(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--steps", "evaluate-known-*", "heldout", "--list"]) == 0
    names = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert names[0] == "heldout"
    assert len(names) > 2
    assert all(name.startswith("evaluate-known-") for name in names[1:])
    assert main([*arguments, "--steps", "evaluate-nothing", "--list"]) == 2
    assert "Got 'evaluate-nothing'; `--list` shows the names." in capsys.readouterr().err


def test_shuffled_pairs_stay_in_their_split(arguments: list[str]) -> None:
    from datasets import load_from_disk

    runs = Path(arguments[1]) / "finetune"
    shuffled = load_from_disk(str(runs / "known.targets-shuffled.s0/pairs"))
    assert set(shuffled) == {"train", "validation"}
    assert all(set(data.column_names) == {"prompt", "completion", "prompt_id"} for data in shuffled.values())
    assert set(shuffled["train"]["prompt_id"]).isdisjoint(shuffled["validation"]["prompt_id"])
    with (runs / "known.targets-reference.s0/pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert all(read_caption(row["completion"]) for row in rows)


def test_permuted_completions_leave_their_prompts() -> None:
    texts = [f"text {number}" for number in range(50)]
    found = permuted(texts, 0)
    assert sorted(found) == sorted(texts)
    assert all(a != b for a, b in zip(found, texts, strict=True))
    assert found != permuted(texts, 1)
    assert permuted(["a", "a", "b", "b"], 0) == ["b", "b", "a", "a"]
    assert permuted(["a", "a", "a"], 0) == ["a"] * 3


@pytest.mark.parametrize("wording", ["thesaurus", "lexicon"])
def test_prompts_are_of_training_scenes_and_say_what_they_ask_for(wording: str) -> None:
    taken = [prompt.text for prompt in (*read_prompts(str(ROOT / HELDOUT)), *read_prompts(str(ROOT / WRITTEN)))]
    rows = draw_prompts(wording, 300, taken)
    assert rows[:50] == draw_prompts(wording, 50, taken)
    assert len({plain(row[0]) for row in rows}) == 300
    assert not {plain(row[0]) for row in rows} & {plain(text) for text in taken}
    for prompt, law, reference, told in rows:
        scene, wanted = read_caption(reference), parse_asked(told)
        assert scene is not None
        assert scene.split == "train"
        assert wanted.items() <= scene.attributes.items(), prompt
        assert bool(law) == ("motion" in wanted)
    # What would be drawn first is not, once it is taken.
    assert draw_prompts(wording, 1, [rows[0][0].upper()])[0] == rows[1]


def test_few_prompts_are_seen_more_often() -> None:
    assert [FULL.epochs_of(count) for count in (160, 2500, 5000, 10_000)] == [20, 8, 4, 3]
    assert TINY.epochs_of(8) == 1
    assert [FULL.closed_of(count) for count in (160, 2500, 10_000)] == [2, 2, 10]


def test_what_makes_no_pairs_in_hindsight_is_asked_for_none() -> None:
    recipe = yaml.safe_load((ROOT / "recipes/lab.yaml").read_text())
    table = {item.name: training_fields(recipe, FULL, item, "asked.csv") for item in settings(FULL, "unknown")}
    found = {name: (fields["stage3.hindsight"], fields["stage3.epochs"]) for name, fields in table.items()}
    assert found[BEST] == (0.8, 3)
    assert found["cycles-1"] == (0.8, 10)
    # The ceiling sees as many pairs as it has without them, GRPO makes no video of what was seen.
    assert found["targets-reference"] == found["hindsight-none"] == (0.0, 8)
    assert found["objective-sft-grpo"] == (0.0, 20)


def test_no_step_begins_when_the_time_is_over(tmp_path: Path) -> None:
    deadline = Deadline(0)
    deadline.passed = True
    with pytest.raises(RunError, match="run the same command again to go on"):
        run_steps([Step("first", "collect", lambda: None, lambda: "a")], tmp_path, ["collect"], deadline)
    assert read_done(tmp_path) == {}


def test_held_out_prompts_have_three_groups() -> None:
    assert Counter(prompt.group for prompt in held_out(5, 7)) == {
        "new wording": 5, "trained wording": 5, "hand-written": 7,
    }  # fmt: skip


@pytest.mark.parametrize("scale", [FULL, TINY, SMALL])
@pytest.mark.parametrize("regime", REGIMES)
def test_each_setting_differs_in_one_factor(scale: Scale, regime: str) -> None:
    table = {item.name: item for item in settings(scale, regime)}
    best, *others = table.values()
    assert len(others) + 1 == len(settings(scale, regime))
    for item in others:
        beside = vars(table[item.against])
        differing = {key for key, value in vars(item).items() if value != beside[key]} - {"name", "factor", "against"}
        # GRPO goes on from another refiner with a part of the requests; another cycle is another collection.
        allowed = {"cycles": {"prompts", "floor", "closed"}, PLAIN: {"floor", "closed"}}.get(item.factor, {item.factor})
        if item.objective == "grpo":
            assert differing == {"objective", "adapter", "fields", "prompts"}, item
        else:
            assert differing <= allowed, item
            assert differing, item


def test_a_step_that_fails_ends_the_study_unless_it_is_optional(tmp_path: Path) -> None:
    made: list[str] = []

    def failing(kind: type[UserError]) -> None:
        raise kind("Got nothing.")

    steps = [
        Step("first", "collect", lambda: made.append("first"), lambda: "a"),
        Step("without", "collect", lambda: failing(UserError), lambda: "a", optional=True),
        Step("other part", "report", lambda: made.append("other"), lambda: "a"),
        Step("disk", "collect", lambda: failing(RunError), lambda: "a", optional=True),
        Step("last", "collect", lambda: made.append("last"), lambda: "a"),
    ]
    with pytest.raises(RunError):
        run_steps(steps, tmp_path, ["collect"])
    assert made == ["first"]
    done = read_done(tmp_path)
    assert done["without"]["left_out"]
    assert done["disk"]["identity"] == ""
    with pytest.raises(UserError):
        run_steps([Step("wrong", "collect", lambda: failing(UserError), lambda: "a")], tmp_path, ["collect"])
    # Done again only where what it depends on changed.
    assert run_steps([steps[0], steps[4]], tmp_path, ["collect"]) == 1
    assert run_steps([Step("first", "collect", lambda: made.append("again"), lambda: "b")], tmp_path, ["collect"]) == 1
    assert made == ["first", "last", "again"]


def test_a_part_that_came_too_early_is_told(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--out", str(tmp_path / "out"), *arguments[2:]]
    assert main([*given, "--parts", "prompts", "evaluate"]) == 2
    assert "run the part `finetune` first" in capsys.readouterr().err
    assert main([*given, "--parts", "report"]) == 2
    assert "run the part `evaluate` first" in capsys.readouterr().err
    prompts = tmp_path / "out/prompts/thesaurus.csv"
    with pytest.raises(UserError, match="run the part `collect` first"):
        write_subset(tmp_path / "none", prompts, 2, tmp_path / "some")


def test_a_recipe_without_a_rewriter_is_told(
    tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, language_model)
    assert main(["--out", str(tmp_path / "out"), "--recipe", str(recipe), "--tiny"]) == 2
    assert "needs a recipe with `stage1.rewriter`" in capsys.readouterr().err
    assert (
        main(["--out", str(tmp_path / "out"), "--recipe", str(recipe), "--tiny", "--regimes", "unknown", "--list"]) == 0
    )
    assert "finetune-unknown.best.s0" in capsys.readouterr().out
