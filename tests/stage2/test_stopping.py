"""Trajectories that end early: when, what is not made any more, and that all who read them cope."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rapo_lightning.cli import main
from rapo_lightning.data.prompts import read_prompts
from rapo_lightning.data.ranking import Ranking
from rapo_lightning.data.stopping import Stop, counted_row, ending
from rapo_lightning.data.trajectory import by_prompt, read_rows
from rapo_lightning.models import DiffusersVideoModel, TransformersLanguageModel
from rapo_lightning.recipe.files import load_recipe
from rapo_lightning.recipe.identity import rewrite_settings, row_hash
from rapo_lightning.verifiers import Judgement, View
from tests.data.test_trajectory import make_row
from tests.helpers import ROOT, tiny_recipe
from tests.test_pipeline import ALLOW, comparable

PROMPTS = [prompt.text for prompt in read_prompts(str(ROOT / "recipes/lab/prompts_train.csv"), 3)]
STOP = ("--stage2.stop.ceiling.planned", "0.9")


class Planned:
    """Scores full marks from the first round on for some prompts, from the first rewrite on for others, never for the rest."""

    name = "planned"

    def __init__(self, at_once: list[str], rewritten: list[str]) -> None:
        self.at_once, self.rewritten = at_once, rewritten

    def judge(self, views: Sequence[View], models: object) -> list[Judgement]:
        return [Judgement(float(self._is_good(view))) for view in views]

    def _is_good(self, view: View) -> bool:
        return view.source_prompt in self.at_once or (
            view.source_prompt in self.rewritten and view.prompt != view.source_prompt
        )


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> Path:
    verifier = {
        "class_path": f"{__name__}.Planned",
        "init_args": {"at_once": PROMPTS[:1], "rewritten": PROMPTS[1:2]},
    }
    return tiny_recipe(
        tmp_path_factory.mktemp("recipe"), language_model, limit=3, stage2__verifiers=[verifier], stage2__batch_size=3
    )


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert main(["collect", str(recipe), "--out", str(folder), *STOP, *ALLOW]) == 0
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Videos made and judged, and conversations that the language model answered."""
    count: Counter[str] = Counter()
    generate, complete, judge = DiffusersVideoModel.generate, TransformersLanguageModel.complete, Planned.judge

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(self: object, items: Sequence[Any], *rest: Any) -> Any:
            count[name] += len(items)
            return method(self, items, *rest)

        return counted

    monkeypatch.setattr(DiffusersVideoModel, "generate", counting("made", generate))
    monkeypatch.setattr(Planned, "judge", counting("judged", judge))
    monkeypatch.setattr(TransformersLanguageModel, "complete", counting("asked", complete))
    return count


def collect(recipe: Path, folder: Path, *options: str) -> dict[str, list[dict[str, Any]]]:
    """The rounds of each prompt, by its text."""
    assert main(["collect", str(recipe), "--out", str(folder), *options, *ALLOW]) == 0
    groups = by_prompt(comparable(read_rows(folder / "trajectories")))
    return {rounds[0]["source_prompt"]: rounds for rounds in groups.values()}


def test_a_round_that_reaches_every_ceiling_is_the_last() -> None:
    stop = Stop(ceiling={"a": 0.8, "b": 0.5})
    assert ending([make_row(a=0.8, b=0.5)], stop) == "ceiling"
    for a, b in ((0.79, 1.0), (0.9, None), (0.9, float("nan")), (0.9, 0.4)):
        assert ending([make_row(a=a, b=b)], stop) == ""
    # What an earlier round reached does not end this one.
    assert ending([make_row(a=1.0, b=1.0), make_row(round_=1, a=0.1)], stop) == ""
    assert ending([make_row(a=1.0, b=1.0)], Stop()) == ""


def test_patience_counts_rounds_since_the_best_by_the_ranking() -> None:
    scores = [0.3, 0.6, 0.6, 0.5, 0.9]
    rounds = [make_row(round_=number, a=a) for number, a in enumerate(scores)]
    found = [ending(rounds[: number + 1], Stop(patience=2)) for number in range(5)]
    # As good as an earlier one is no gain.
    assert found == ["", "", "", "patience", ""]
    gated = [make_row(a=0.9, b=0.1), make_row(round_=1, a=0.2, b=0.7), make_row(round_=2, a=0.9, b=0.2)]
    assert ending(gated[:2], Stop(patience=1)) == "patience"
    ranking = Ranking(gates={"b": 0.5})
    assert ending(gated[:2], Stop(patience=1), ranking) == ""
    assert ending(gated, Stop(patience=1), ranking) == "patience"


def test_a_prompt_counts_with_its_best_round_after_an_early_end() -> None:
    rounds = [make_row(round_=number, a=a) for number, a in enumerate([0.3, 0.6, 0.5])]
    assert [counted_row(rounds, number)["round"] for number in range(5)] == [0, 1, 2, 1, 1]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("patience", "-1", "needs patience >= 0"),
        ("ceiling.planned", ".inf", "a ceiling of numbers"),
        ("ceiling.clarity", "0.5", "must name verifiers of the recipe (planned). Got clarity"),
    ],
)
def test_no_usable_stop_is_one_sentence(
    recipe: Path, tmp_path: Path, option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["collect", str(recipe), "--out", str(tmp_path), f"--stage2.stop.{option}", value, *ALLOW]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_rows_and_rewrites_without_a_stop_are_those_of_before(recipe: Path) -> None:
    plain = load_recipe(recipe)
    hashes = [row_hash(plain)]
    for stop in (Stop(patience=1), Stop(patience=2), Stop(ceiling={"planned": 0.9})):
        other = load_recipe(recipe)
        other.stage2.stop = stop
        hashes.append(row_hash(other))
        # What is recorded of a rewrite holds whenever trajectories end.
        assert rewrite_settings(other) == rewrite_settings(plain)
    assert len(set(hashes)) == 4
    # Which round is better decides when patience ends.
    other.stage2.stop, other.stage2.ranking = Stop(patience=2), Ranking(weights={"planned": 2.0})
    assert row_hash(other) not in hashes
    plain.stage2.ranking = other.stage2.ranking
    assert row_hash(plain) == hashes[0]


def test_nothing_is_made_for_what_has_ended_and_the_rest_goes_on(
    recipe: Path, tmp_path: Path, calls: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = collect(recipe, tmp_path / "run", *STOP)
    assert [len(rows[text]) for text in PROMPTS] == [1, 2, 3]
    # Two rewrites of the third prompt and one of the second, each with a physics check.
    assert calls == {"made": 6, "judged": 6, "asked": 6}
    assert [[row["ended"] for row in rows[text]] for text in PROMPTS] == [["ceiling"], ["", "ceiling"], ["", "", ""]]
    for rounds in rows.values():
        assert [bool(row["next_prompt"]) for row in rounds] == [True] * (len(rounds) - 1) + [False]
        assert rounds[-1]["physics"] == ""
    shown = capsys.readouterr().out
    # A prompt that ended counts with its best round.
    assert "round 2: 1 videos" in shown
    assert "2 ended before  planned 0.667" in shown
    calls.clear()
    assert collect(recipe, tmp_path / "run", *STOP) == rows
    assert not calls
    assert "3 prompts, 3 already complete" in capsys.readouterr().out


def test_an_ended_trajectory_is_the_beginning_of_the_one_that_goes_on(
    recipe: Path, run: Path, calls: Counter[str]
) -> None:
    stopped = collect(recipe, run, *STOP)
    assert not calls
    # Without the stop these are rows of another recipe, made from the same records.
    both = collect(recipe, run)
    assert calls["made"] == calls["judged"] == 3
    assert calls["asked"] == 6
    for text in PROMPTS:
        mine = [row for row in both[text] if row["recipe_hash"] != stopped[text][0]["recipe_hash"]]
        assert len(mine) == 3
        last = len(stopped[text]) - 1
        skipped = {"recipe_hash", "ended", *(("next_prompt", "physics") if last < 2 else ())}
        for row, before in zip(mine, stopped[text], strict=False):
            left = skipped if row["round"] == last else {"recipe_hash"}
            assert {k: v for k, v in row.items() if k not in left} == {k: v for k, v in before.items() if k not in left}
    calls.clear()
    # Patience in its place: nothing is made at all.
    collect(recipe, run, "--stage2.stop.patience", "1")
    assert not calls


def test_more_rounds_continue_only_what_has_not_ended(recipe: Path, run: Path, calls: Counter[str]) -> None:
    rows = collect(recipe, run, *STOP, "--stage2.rounds", "5")
    assert [len(rows[text]) for text in PROMPTS] == [1, 2, 5]
    assert calls["made"] == 2
    assert rows[PROMPTS[2]][2]["next_prompt"]


def test_a_run_that_was_killed_does_not_go_on_after_the_end(
    recipe: Path, run: Path, tmp_path: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = collect(recipe, run, *STOP)
    shutil.rmtree(run / "trajectories")
    assert collect(recipe, run, *STOP) == whole
    assert not calls
    generate = DiffusersVideoModel.generate

    def killed(self: DiffusersVideoModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        if calls["made"] == 3:
            raise SystemError("pulled the plug")
        return generate(self, prompts, seeds)

    with monkeypatch.context() as patch:
        patch.setattr(DiffusersVideoModel, "generate", killed)
        with pytest.raises(SystemError, match="plug"):
            main(["collect", str(recipe), "--out", str(tmp_path / "k"), *STOP, *ALLOW])
    assert len(read_rows(tmp_path / "k/trajectories")) == 3
    assert collect(recipe, tmp_path / "k", *STOP) == whole
    assert calls["made"] == calls["judged"] == 6


def test_shards_end_as_one_process_does(recipe: Path, finished: Path, tmp_path: Path) -> None:
    for shard in ("1/2", "2/2"):
        rows = collect(recipe, tmp_path / "shards", *STOP, "--shard", shard)
    groups = by_prompt(comparable(read_rows(finished / "trajectories")))
    assert rows == {rounds[0]["source_prompt"]: rounds for rounds in groups.values()}


def test_readers_cope_with_trajectories_of_unequal_length(
    recipe: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(recipe), "--out", str(run), *STOP, *ALLOW]
    arms = "[raw, sspo, raw_best]"
    metric = ["--evaluation.prompts", str(recipe.parent / "prompts.csv"), "--evaluation.arms", arms]
    assert main(["evaluate", *options, *metric]) == 0
    shown = capsys.readouterr().out
    results = json.loads((run / "results.json").read_text())
    assert results["arms"]["sspo@3"]["videos_per_prompt"] == 2
    # Seeds never rewrite, so only the first prompt ends.
    assert results["arms"]["raw@3"]["videos_per_prompt"] == pytest.approx(7 / 3, abs=1e-4)
    assert "2.333" in shown
    assert main(["report", str(run)]) == 0
    page = (run / "report/index.html").read_text()
    assert page.count("<b>ended early</b> ceiling") == 2
    assert "2.333" in page
    assert main(["finetune", *options, "--stage3.epochs", "1"]) == 0
    assert "pairs from 3 prompts" in capsys.readouterr().out
