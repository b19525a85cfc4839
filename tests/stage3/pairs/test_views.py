"""The three views, the sides of the split, and the funnel's sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from rapo_lightning.data.ranking import Ranking
from rapo_lightning.errors import UserError
from rapo_lightning.recipe import Stage3, Views
from rapo_lightning.stage3.pairs import Candidate, Funnel
from rapo_lightning.stage3.pairs.funnel import Step, refuse_none
from rapo_lightning.stage3.pairs.split import Split
from tests.stage3.pairs.rounds import candidates, trajectory, views

WINNER, MARGIN = {"filter": "winner"}, {"filter": "margin"}
ROUNDS = trajectory("x", (0.2, 0.2), (0.9, 0.9), (0.1, 0.4), (0.4, 0.4), texts=["good", "bad", "middling"])
STAGE3 = Stage3(pairs=[WINNER, MARGIN], system="Rewrite.", validation_share=0.0)


def texts(view: object) -> list[str]:
    return [row["completion"][0]["content"] for row in view]  # type: ignore[attr-defined]


def test_sft_is_what_is_kept() -> None:
    view = views(ROUNDS, STAGE3).view("sft")
    (row,) = view["train"]
    turns = [{"role": "system", "content": "Rewrite."}, {"role": "user", "content": "x"}]
    assert row == {
        "prompt": turns, "completion": [{"role": "assistant", "content": "good"}], "prompt_id": "x",
        "score_gap": pytest.approx(0.7),
    }  # fmt: skip
    assert len(view["validation"]) == 0


def test_preference_is_best_against_worst() -> None:
    (row,) = views(ROUNDS, STAGE3).view("preference")["train"]
    # "bad" and the request have the same mean rank; the earlier of them is the worst.
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("good", "x")
    assert row["score_gap"] == pytest.approx(0.7)
    weighted = views(ROUNDS, STAGE3, Ranking(weights={"a": 3})).view("preference")["train"]
    assert weighted[0]["rejected"][0]["content"] == "bad"


def test_preference_keeps_its_gap_and_dominance() -> None:
    rows = trajectory("x", (0.5, 0.5), (0.9, 0.5), (0.2, 0.6), texts=["better", "mixed"])
    stage3 = Stage3(pairs=[WINNER, MARGIN], validation_share=0.0)
    ranking = Ranking(weights={"a": 2})
    assert views(rows, stage3, ranking).view("preference")["train"][0]["rejected"][0]["content"] == "mixed"
    stage3.views = Views(rejected="dominated")
    assert views(rows, stage3, ranking).view("preference")["train"][0]["rejected"][0]["content"] == "x"
    stage3.views = Views(gap=0.6)
    assert len(views(rows, stage3, ranking).view("preference")["train"]) == 0


def test_a_rejected_text_differs_from_the_chosen() -> None:
    rows = trajectory("x", (0.1, 0.1), (0.9, 0.9), texts=["X"])
    stage3 = Stage3(pairs=[WINNER], validation_share=0.0)
    assert len(views(rows, stage3).view("sft")["train"]) == 1
    assert len(views(rows, stage3).view("preference")["train"]) == 0


def test_unpaired_are_good_and_bad_by_thresholds() -> None:
    never = trajectory("y", (0.3, 0.3), (0.2, 0.2))
    stage3 = Stage3(pairs=[WINNER, MARGIN], validation_share=0.0, views=Views(good=0.5, bad=0.35))
    view = views([*ROUNDS, *never], stage3).view("unpaired")["train"]
    found = [(row["prompt"][1]["content"], row["completion"][0]["content"], row["label"]) for row in view]
    assert found == [
        ("x", "x", False),
        ("x", "good", True),
        ("x", "bad", False),
        ("y", "y", False),
        ("y", "better", False),
    ]
    gated = views(ROUNDS, stage3, Ranking(gates={"b": 0.95})).view("unpaired")["train"]
    assert not any(gated["label"])
    voted = views(ROUNDS, stage3, Ranking(weights={"a": 0})).view("unpaired")["train"]
    assert ("bad", False) not in list(zip(texts(voted), voted["label"], strict=True))


@pytest.mark.parametrize("given", [{"gap": -1.0}, {"gap": float("nan")}, {"good": 0.1, "bad": 0.2}])
def test_views_are_checked(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="gap >= 0 and bad <= good"):
        Views(**given)  # type: ignore[arg-type]


def test_no_text_is_on_both_sides() -> None:
    found = candidates(*(trajectory(f"ball {number}", (0.1, 0.1)) for number in range(60)))
    # The same texts under another law, and in other letters.
    again = candidates(*(trajectory(f"BALL  {number}", (0.1, 0.1), phys_law="falls") for number in range(60)))
    split = Split([*found, *again], found, 0.3)
    sides = [split.is_validation(candidate) for candidate in found]
    assert sides == [split.is_validation(candidate) for candidate in again]
    assert 5 < sum(sides) < 35
    fewer = Split(found[:30], found[:30], 0.3)
    alone = [Split(found, found, 0.3).is_validation(candidate) for candidate in found[:30]]
    assert alone == [fewer.is_validation(candidate) for candidate in found[:30]]


def test_both_sides_have_a_prompt_and_one_alone_is_trained_on() -> None:
    found = candidates(*(trajectory(f"ball {number}", (0.1, 0.1), (0.2, 0.2)) for number in range(3)))

    def sides(kept: list[Candidate], share: float) -> list[bool]:
        split = Split(found, kept, share)
        return [split.is_validation(candidate) for candidate in kept]

    assert sides(found, 0.0) == [False] * 6
    assert sides(found, 1e-9) == [True] * 2 + [False] * 4
    assert sides(found, 1 - 1e-9) == [True] * 2 + [False] * 4
    assert sides(found[:2], 1 - 1e-9) == sides(found[:2], 1e-9) == [False, False]


def ready(request: str, split: str) -> Candidate:
    row = {"prompt_id": request, "source_prompt": request, "prompt": "better", "split": split}
    return Candidate(row, None, (row,), request)


def test_splits_of_a_dataset_are_kept_and_looked_at() -> None:
    found = [ready("a", "train"), ready("b", "validation"), ready("c", "train")]
    split = Split(found, found, 0.9)
    assert [split.is_validation(candidate) for candidate in found] == [False, True, False]
    with pytest.raises(UserError, match="training and validation both.*Got 'A ' in both; take it out of one"):
        Split([*found, ready("A ", "validation")], found, 0.1)


def test_what_took_all_pairs_is_said() -> None:
    found = candidates(trajectory("x", (0.1, 0.1), (0.9, 0.9)), trajectory("y", (0.1, 0.1), (0.9, 0.9)))
    steps = [Step("all", found), Step("winner", found[:2]), Step("margin", []), Step("words", [])]
    with pytest.raises(UserError, match="`margin` took the last 2, of 1 prompts, of 4 rows in run; relax it"):
        refuse_none(Funnel("run", steps, recipe_hashes=["h"]))
    equal = candidates(trajectory("x", (0.5, 0.5), (0.5, 0.5)))
    with pytest.raises(UserError, match="all rounds of a prompt score the same, so add a verifier"):
        refuse_none(Funnel("run", [Step("all", equal), Step("margin", [])], recipe_hashes=["h"]))
    unscored = candidates(trajectory("x", (None, None), (None, None)))
    with pytest.raises(UserError, match="no round has a score, so let `collect` score the videos"):
        refuse_none(Funnel("run", [Step("all", unscored), Step("margin", [])], recipe_hashes=["h"]))
    refuse_none(Funnel("run", [Step("all", found)]))


def test_the_funnel_is_one_line(tmp_path: Path) -> None:
    assert (
        str(views(ROUNDS, STAGE3).funnel) == "1 pairs from 1 prompts (4 rounds of run; left after winner 1, margin 1)"
    )
    steps = [Step("all", [ready("a", "")])]
    assert (
        str(Funnel("p.csv", steps, 2)) == "1 pairs from 1 prompts (1 ready pairs of p.csv, 2 incomplete rows left out)"
    )
