"""Pairs in hindsight: what the judge saw, and the text that made it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rapo_lightning.cli import main
from rapo_lightning.data.store import Row
from rapo_lightning.errors import UserError
from rapo_lightning.recipe import Stage3
from rapo_lightning.recipe.pairs import build_filters
from rapo_lightning.stage3.pairs import Context, Funnel, PairViews
from rapo_lightning.stage3.pairs.funnel import select
from rapo_lightning.stage3.pairs.hindsight import hindsight, shared, with_hindsight
from tests.helpers import tiny_recipe
from tests.stage3.pairs.rounds import candidates, trajectory

WRONG = "Missing or wrong: colour."


def rounds(request: str, *told: tuple[str, str], restated: str = "") -> list[Row]:
    """Rounds with texts and what the judge says that their videos show, and that the request asks for."""
    rows = trajectory(request, *[(0.2, 0.2)] * (len(told) + 1), texts=[text for text, _ in told])
    critiques = [
        "The video shows nothing; unclear frames. " + WRONG,
        *(f"The video shows {seen}. {WRONG}" for _, seen in told),
    ]
    return [{**row, "critique": critique, "restated": restated} for row, critique in zip(rows, critiques, strict=True)]


FAILED = rounds(
    "a ball of lime",
    ("A clip of a large red ball.", "a small green ball"),
    ("A clip of a large red ball at rest.", "a large red ball"),
    ("A clip of a red cube.", "a red cube, unclear frames"),
)


def test_a_failed_loop_teaches_what_its_videos_show() -> None:
    (pair,) = hindsight(candidates(FAILED), 0.75)
    assert (pair.request, pair.text, pair.prompt_id) == (
        "a large red ball",
        "A clip of a large red ball at rest.",
        "a ball of lime",
    )
    assert not any(name.startswith("score_") for name in pair.row)
    assert pair.gap != pair.gap
    # The share of "a small green ball" is two of four words.
    assert shared("a small green ball", "A clip of a large red BALL.") == 0.5
    (looser,) = hindsight(candidates(FAILED[:2]), 0.5)
    assert looser.text == "A clip of a large red ball."
    assert hindsight(candidates(FAILED[:1]), 0.75) == []


def test_the_same_pair_comes_once_and_is_on_its_prompts_side() -> None:
    told = ("A clip of a large red ball.", "a large red ball")
    steps = select(
        candidates(rounds("x", told), rounds("y", told)), build_filters(Stage3(pairs=[{"filter": "winner"}])), Context()
    )
    longer = with_hindsight(steps, 0.75)
    assert [(step.name, len(step.kept)) for step in longer] == [("all", 4), ("winner", 2), ("hindsight", 3)]
    assert with_hindsight(steps, 0.0) == steps
    stage3 = Stage3(validation_share=0.0)
    found = PairViews(Funnel("run", longer, recipe_hashes=["h"]), stage3, Context().ranking)
    assert len(found.view("sft")["train"]) == 3
    # It is neither good nor bad, nor preferred to anything.
    assert {row["prompt"][-1]["content"] for row in found.view("unpaired")["train"]} <= {"x", "y"}
    assert {row["prompt"][-1]["content"] for row in found.view("preference")["train"]} <= {"x", "y"}


def test_a_video_is_what_others_asked_for() -> None:
    large = ("A clip of a large red ball, rolling.", "a large red ball, rolling")
    all_ = candidates(
        rounds("scarlet orb", ("A mess.", "a green cube"), restated="a red ball"),
        rounds("a mess", large, ("A clip of a red ball, rolling.", "a large red ball, rolling")),
        # Not in this order, not at all, and a judge that says nothing.
        rounds("ball of red", ("A mess.", "a cube"), restated="ball red"),
        rounds("azure ball", ("A mess.", "a cube"), restated="a blue ball"),
        rounds("ball", ("A mess.", "a cube")),
        rounds("the", ("A mess.", "a cube"), restated="a"),
    )
    found = hindsight(all_, 0.75)
    assert [(pair.request, pair.text, pair.prompt_id) for pair in found] == [
        ("a large red ball, rolling", large[0], "a mess"),
        ("scarlet orb", large[0], "scarlet orb"),
    ]
    assert not any(name.startswith("score_") for pair in found for name in pair.row)
    assert [pair.prompt_id for pair in hindsight(all_, 0.75, others=False)] == ["a mess"]


def test_what_a_filter_keeps_does_not_come_again() -> None:
    rows = rounds("scarlet orb", ("A clip of a red ball.", "a red ball"), restated="a red ball")
    rows[1] |= {"score_a": 0.9, "score_b": 0.9}
    steps = select(candidates(rows), build_filters(Stage3(pairs=[{"filter": "winner"}])), Context())
    assert [(pair.request, pair.text) for pair in with_hindsight(steps, 0.75)[-1].kept] == [
        ("scarlet orb", "A clip of a red ball."),
        ("a red ball", "A clip of a red ball."),
    ]


def test_what_is_seldom_seen_is_not_drowned() -> None:
    common = [rounds(f"r{n}", (f"A clip {n} of a red ball, falling.", "a red ball, falling")) for n in range(5)]
    rare = rounds("rare", ("A clip of a red ball, circling.", "a red ball, circling"))
    again = rounds("again", ("A clip 0 of a red ball, falling.", "a red ball, falling"))
    all_ = candidates(*common, rare, again)
    single = candidates(rounds("one", ("A clip of a ball.", "ball")), rare)
    assert [pair.prompt_id for pair in hindsight(single, 0.75, 1)] == ["one", "rare"]
    assert len(hindsight(all_, 0.75)) == 6
    for most, wanted in (
        (1, ["r0", "rare"]),
        (3, ["r0", "r1", "r2", "rare"]),
        (9, ["r0", "r1", "r2", "r3", "r4", "rare"]),
    ):
        assert [pair.prompt_id for pair in hindsight(all_, 0.75, most)] == wanted


def test_what_cannot_be_is_told(tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="collect with that verifier, or set it to 0"):
        hindsight(candidates(trajectory("x", (0.1, 0.1), (0.9, 0.9))), 0.75)
    recipe = tiny_recipe(tmp_path, language_model)
    assert main(["finetune", str(recipe), "--stage3.hindsight", "1.5", "--allow_package", "tests"]) == 2
    assert "0 <= hindsight <= 1. Got 1.5" in capsys.readouterr().err
    assert main(["finetune", str(recipe), "--stage3.hindsight_most", "-1", "--allow_package", "tests"]) == 2
    assert "closed_vocabulary and hindsight_most >= 0. Got 0 and -1" in capsys.readouterr().err
    assert main(["finetune", str(recipe), "--stage3.hindsight_most", "9", "--allow_package", "tests"]) == 2
    assert "needs hindsight > 0. Got 9 and 0; set both" in capsys.readouterr().err
