"""Every filter: what it keeps, what it drops, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rapo_lightning.data.ranking import Ranking
from rapo_lightning.errors import UserError
from rapo_lightning.lab.reading import CaptionReader
from rapo_lightning.recipe import Recipe, Stage2, Stage3
from rapo_lightning.recipe.pairs import build_filters, build_reader
from rapo_lightning.recipe.training import FILTERS
from rapo_lightning.recipe.verifiers import check_verifier_names
from rapo_lightning.stage3.pairs import Candidate, Context
from rapo_lightning.stage3.pairs.caption_model import CaptionModel
from rapo_lightning.stage3.pairs.funnel import select
from tests.stage3.pairs.rounds import candidates, kept, trajectory

WINNER, MARGIN = {"filter": "winner"}, {"filter": "margin"}


def test_the_usual_filters_are_winners_that_beat_the_user() -> None:
    found = candidates(
        trajectory("wins", (0.1, 0.1), (0.9, 0.9)),
        trajectory("barely", (0.5, 0.5), (0.55, 0.55)),
        trajectory("loses", (0.9, 0.9), (0.1, 0.1)),
        trajectory("wordy", (0.1, 0.1), (0.9, 0.9), texts=["word " * 121]),
        trajectory("low", (0.1, 0.1), (0.4, 0.4)),
    )
    filters = build_filters(
        Stage3(
            pairs=[
                WINNER,
                {"filter": "margin", "least": 0.1},
                {"filter": "words"},
                {"filter": "floors", "least": {"a": 0.5}},
            ]
        )
    )
    steps = select(found, filters, Context())
    assert [(step.name, len(step.kept), step.prompts) for step in steps] == [
        ("all", 10, 5), ("winner", 5, 5), ("margin", 3, 3), ("words", 2, 2), ("floors", 1, 1),
    ]  # fmt: skip
    (pair,) = steps[-1].kept
    assert (pair.request, pair.text) == ("wins", "better")
    assert pair.gap == pytest.approx(0.8)


def test_the_ranking_decides_who_wins() -> None:
    found = candidates(trajectory("a ball", (0.1, 0.1), (0.9, 0.05)))
    assert kept(found, WINNER, context=Context(Ranking(weights={"b": 0}))) == [("a ball", "better")]
    assert kept(found, WINNER, context=Context(Ranking(gates={"b": 0.1}))) == [("a ball", "a ball")]


def test_filters_work_in_the_order_of_the_recipe() -> None:
    found = candidates(trajectory("x", (0.1, 0.1), (0.9, 0.9), (0.8, 0.8), texts=["long " * 9, "short"]))
    cap = {"filter": "words", "most": 5}
    assert kept(found, cap, WINNER) == [("x", "short")]
    assert kept(found, WINNER, cap) == []
    assert len(kept(found)) == 3


def test_where_the_loop_starts_from_a_rewrite_that_may_win() -> None:
    cat, dog = trajectory("a cat", (0.9, 0.9), (0.1, 0.1)), trajectory("a dog", (0.9, 0.9), (0.1, 0.1))
    cat[0]["prompt"] = "a cat by stage 1"
    assert kept(candidates(cat, dog), WINNER, MARGIN) == [("a cat", "a cat by stage 1")]


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_missing_score_passes_no_floor(score: float | None) -> None:
    found = candidates(trajectory("half", (0.1, score), (0.9, score)), trajectory("whole", (0.1, 0.0), (0.9, 0.0)))
    floor = {"filter": "floors", "least": {"b": -1.0}}
    assert kept(found, WINNER, MARGIN, floor) == [("whole", "better")]


def test_a_round_without_scores_is_beaten_by_nothing() -> None:
    assert kept(candidates(trajectory("blind", (None, None), (0.9, 0.9))), WINNER, MARGIN) == []


def test_pareto_asks_every_verifier() -> None:
    found = candidates(
        trajectory("both", (0.1, 0.1), (0.9, 0.1)),
        trajectory("one", (0.1, 0.5), (0.9, 0.4)),
        trajectory("none", (0.1, 0.1), (0.1, 0.1)),
        trajectory("unknown", (0.1, None), (0.9, 0.9)),
        trajectory("small", (0.1, 0.1), (0.2, 0.2)),
    )
    assert [request for request, _ in kept(found, {"filter": "pareto"})] == ["both", "small"]
    assert [request for request, _ in kept(found, {"filter": "pareto", "gap": 0.2})] == ["both"]


def test_averaged_ranks_by_means_over_seeds_and_runs() -> None:
    lucky = trajectory("x", (0.5, 0.5), (1.0, 1.0), (0.8, 0.8), texts=["lucky", "steady"], seed=1)
    again = trajectory("x", (0.5, 0.5), (0.0, 0.0), (0.8, None), texts=["lucky", "steady"], seed=2)
    same_seed = trajectory("x", (0.5, 0.5), (0.0, 0.0), texts=["lucky"], seed=1)
    from rapo_lightning.stage3.pairs.candidates import trajectory_candidates

    found = trajectory_candidates({"a": lucky, "b": again, "c": same_seed})
    assert kept(found, WINNER) == [("x", "lucky")]
    assert kept(found, {"filter": "averaged"}, WINNER) == [("x", "steady")]
    steps = select(found, build_filters(Stage3(pairs=[{"filter": "averaged", "videos": 2}])), Context())
    scores = {item.text: (item.row["score_a"], item.row["score_b"]) for item in steps[-1].kept}
    assert scores == {"x": (0.5, 0.5), "lucky": (0.5, 0.5), "steady": (pytest.approx(0.8), pytest.approx(0.8))}
    assert {item.text: item.gap for item in steps[-1].kept}["steady"] == pytest.approx(0.3)
    assert kept(candidates(lucky), {"filter": "averaged", "videos": 2}) == []


RIGHT = "A simple animation shows a small red ball dropping straight to the ground, in a green meadow."
WRONG = "A simple animation shows a small blue ball dropping straight to the ground, in a green meadow."


def read_pair(text: str) -> Candidate:
    return candidates(trajectory("a small red ball falling in a meadow", (0.1, 0.5), (0.9, 0.9), texts=[text]))[1]


def test_named_right_wants_all_that_is_named() -> None:
    context = Context(reader=build_reader(Stage3(reader={"class_path": "rapo_lightning.lab.reading.CaptionReader"})))
    found = [read_pair(RIGHT), read_pair(WRONG)]
    assert [text for _, text in kept(found, {"filter": "named_right"}, context=context)] == [RIGHT]
    most = {"filter": "faithful", "by": "reader", "least": 0.6}
    assert len(kept(found, most, context=context)) == 2
    assert [text for _, text in kept(found, {**most, "least": 0.9}, context=context)] == [RIGHT]
    for item in ({"filter": "named_right"}, most):
        with pytest.raises(UserError, match=f"`{item['filter']}` needs something that reads texts"):
            kept(found, item)
    assert CaptionReader().right("a thing", RIGHT) == {}


def test_faithful_by_a_verifier() -> None:
    found = candidates(trajectory("x", (0.4, 0.1), (0.6, 0.9)))
    assert kept(found, {"filter": "faithful", "by": "a", "least": 0.5}) == [("x", "better")]
    with pytest.raises(UserError, match=r"`faithful` needs scores of text_fidelity. Got data with a, b"):
        kept(found, {"filter": "faithful", "least": 0.5})


CAPTIONS = [f"a {size} {colour} ball {verb} in the {place}" for size in ("small", "large") for colour in ("red", "blue", "green")
            for verb in ("rolls", "falls", "rests") for place in ("meadow", "cellar")]  # fmt: skip


def test_style_is_likelihood_under_the_captions(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_text("\n".join(CAPTIONS))
    texts = [
        "a small green ball rests in the cellar",
        "ball small cellar the in rests green a",
        "a crimson orb dropping",
    ]
    found = candidates(*(trajectory(text, (0.1, 0.1)) for text in texts))
    context = Context(captions=str(path))
    assert [text for _, text in kept(found, {"filter": "style", "share": 0.0}, context=context)] == texts[:1]
    with pytest.raises(UserError, match=r"recipe without `stage1.captions`"):
        kept(found, {"filter": "style"})
    path.write_text("\n".join(CAPTIONS[:9] * 3))
    with pytest.raises(UserError, match="10 different captions at least. Got 9"):
        kept(found, {"filter": "style"}, context=context)


def test_the_caption_model_is_a_distribution() -> None:
    model = CaptionModel(CAPTIONS)
    vocabulary = {chain[0] for chain in model.chains if len(chain) == 1}
    for before in (("a", "small"), ("in", "the"), ("never", "seen")):
        shares = [model.probability((*before, word)) for word in vocabulary]
        assert sum(shares) + model.probability((*before, "unknown")) == pytest.approx(1)


def test_words_counts_words() -> None:
    found = candidates(trajectory("x", (0.1, 0.1), (0.9, 0.9), (0.9, 0.9), texts=["one two three", "one two"]))
    assert kept(found, {"filter": "words", "most": 2}) == [("x", "x"), ("x", "one two")]


def test_distinct_sees_texts_alone() -> None:
    first, second = trajectory("A ball", (0.1, 0.1), (0.9, 0.9)), trajectory("a  ball", (0.2, 0.2), (0.9, 0.9))
    for row in second:
        row["prompt_id"], row["phys_law"] = "other", "gravity"
    found = candidates(first, second)
    assert kept(found, WINNER, {"filter": "distinct"}) == [("A ball", "better")]


def test_balance_limits_pairs_of_a_request_and_of_a_group() -> None:
    many = trajectory("x", (0.1, 0.1), (0.3, 0.3), (0.9, 0.9), (0.2, 0.2), texts=["b", "c", "d"], phys_law="falls")
    few = trajectory("y", (0.1, 0.1), phys_law="rises")
    found = candidates(many, few)
    assert kept(found, {"filter": "balance"}) == [("x", "c"), ("y", "y")]
    assert kept(found, {"filter": "balance", "most": 2}) == [("x", "b"), ("x", "c"), ("y", "y")]
    groups = {"filter": "balance", "most": 0, "groups": "phys_law"}
    assert [request for request, _ in kept(found, groups)] == ["x", "y"]
    assert kept(found, groups) == kept(list(reversed(found)), groups)[::-1]
    with pytest.raises(UserError, match=r"the column that `groups` names. Got 'law', and rows with .*phys_law"):
        kept(found, {**groups, "groups": "law"})


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"filter": "margin", "least": math.nan}, "Got least=nan"),
        ({"filter": "pareto", "gap": math.inf}, "Got gap=inf"),
        ({"filter": "floors", "least": {"a": math.nan}}, "Got a=nan"),
        ({"filter": "floors"}, "least"),
        ({"filter": "faithful", "least": 2.0}, "0 <= least <= 1. Got 2.0"),
        ({"filter": "style", "share": 1.0}, "0 <= share < 1. Got 1.0"),
        ({"filter": "words", "most": 0}, "most >= 1. Got 0"),
        ({"filter": "words", "many": 3}, "many"),
        ({"filter": "balance", "most": 0}, "most >= 1, or groups. Got 0 and ''"),
        ({"filter": "averaged", "videos": 0}, "videos >= 1. Got 0"),
        ({"filter": "os.system"}, "must be one of rapo_lightning.stage3.pairs.Averaged.*Got 'os.system'"),
        ({"filter": "tests.helpers.Silent"}, "methods keep. Got 'tests.helpers.Silent'"),
    ],
)
def test_parameters_are_checked(item: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_filters(Stage3(pairs=[item]))


def test_averaged_comes_first() -> None:
    with pytest.raises(UserError, match=r"`averaged` must be the first .* Got it as number 2"):
        build_filters(Stage3(pairs=[WINNER, {"filter": "averaged"}]))


@pytest.mark.parametrize("item", [{"filter": "margn"}, {"margin": 0.1}, {}, {"filter": 3}])
def test_a_name_that_is_none_is_refused_with_the_choices(item: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`stage3.pairs\[1\]` must be .*winner, margin, .*balance.*correct the name"):
        Stage3(pairs=[WINNER, item])


def test_every_shipped_filter_has_its_name() -> None:
    needed: dict[str, dict[str, Any]] = {"floors": {"least": {}}, "faithful": {"least": 0.5}}
    built = [build_filters(Stage3(pairs=[{"filter": name, **needed.get(name, {})}]))[0] for name in FILTERS]
    assert [item.name for item in built] == list(FILTERS)
    assert all(type(item).__doc__ for item in built)


class Shouted:
    """A filter of a user's."""

    name = "shouted"
    verifiers = ()

    def keep(self, found: list[Candidate], context: Context) -> list[Candidate]:
        return [item for item in found if item.text.isupper()]


def test_a_filter_of_ones_own() -> None:
    found = candidates(trajectory("x", (0.1, 0.1), (0.9, 0.9), texts=["LOUD"]))
    assert kept(found, {"filter": "tests.stage3.pairs.test_filters.Shouted"}) == [("x", "LOUD")]


def test_filters_name_verifiers_of_the_recipe() -> None:
    verifiers = [{"class_path": "rapo_lightning.verifiers.TextFidelity"}]
    pairs: list[dict[str, Any]] = [WINNER, {"filter": "floors", "least": {"text_fidelity": 0.5}}]
    recipe = Recipe(stage2=Stage2(verifiers=verifiers), stage3=Stage3(pairs=pairs))  # type: ignore[arg-type]
    check_verifier_names(recipe)
    recipe.stage2.ranking = Ranking(weights={"text_fidelity": 2}, gates={"motion": 0.5})
    with pytest.raises(UserError, match=r"`stage2.ranking.gates` .*\(text_fidelity\). Got motion"):
        check_verifier_names(recipe)
    recipe.stage2.ranking = Ranking()
    recipe.stage3.pairs[1] = {"filter": "floors", "least": {"lab_oracel": 0.7}}
    with pytest.raises(UserError, match=r"`stage3.pairs\[1\]` .*\(text_fidelity\). Got lab_oracel"):
        check_verifier_names(recipe)
