from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from datamodules.pairs import IGNORED, PairDataModule, tokenize_pairs
from rapo_lightning.data.ranking import Ranking
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models.causal_model import load_causal_model
from rapo_lightning.models.refiner import refiner_messages
from rapo_lightning.recipe import Lora, Pairs, Recipe, Stage2, Stage3
from rapo_lightning.recipe.verifiers import check_verifier_names
from rapo_lightning.stage3.module import RefinerModule
from rapo_lightning.stage3.pairs import SftPair, read_pairs_csv, sft_pairs, split_pairs
from tests.data.test_trajectory import make_row

PAIR = SftPair(refiner_messages("a ball", "Rewrite."), [{"role": "assistant", "content": "a red ball"}], 0.5, "id")


def trajectory(identity: str, first: float, second: float, prompt: str = "better") -> list[dict[str, object]]:
    return [
        make_row(identity, 0, first, first, source_prompt=identity, prompt=identity),
        make_row(identity, 1, second, second, source_prompt=identity, prompt=prompt),
    ]


def test_pairs_are_winners_that_pass_the_filters() -> None:
    rows = [
        *trajectory("wins", 0.1, 0.9),
        *trajectory("barely", 0.5, 0.55),
        *trajectory("loses", 0.9, 0.1),
        *trajectory("wordy", 0.1, 0.9, "word " * 121),
        *trajectory("low", 0.1, 0.4),
    ]
    pairs, report = sft_pairs(rows, Stage3(pairs=Pairs(margin=0.1, floors={"a": 0.5})))
    assert [(pair.prompt[-1]["content"], pair.completion[0]["content"]) for pair in pairs] == [("wins", "better")]
    assert pairs[0].score_gap == pytest.approx(0.8)
    assert (report.prompts, report.not_better, report.too_long, report.below_floor) == (5, 2, 1, 1)


def test_the_ranking_decides_who_wins() -> None:
    rows = trajectory("a ball", 0.1, 0.9)
    rows[1]["score_b"] = 0.05
    (pair,), _ = sft_pairs(rows, Stage3(), Ranking(weights={"b": 0}))
    assert pair.completion[0]["content"] == "better"
    assert not sft_pairs(rows, Stage3(), Ranking(gates={"b": 0.1}))[0]


def test_where_the_loop_starts_from_a_rewrite_that_may_win() -> None:
    rows = [row for name in ("a cat", "a dog") for row in trajectory(name, 0.9, 0.1)]
    rows[0]["prompt"] = "a cat by stage 1"
    pairs, report = sft_pairs(rows, Stage3(pairs=Pairs(margin=0.1)))
    assert [pair.completion[0]["content"] for pair in pairs] == ["a cat by stage 1"]
    assert report.not_better == 1


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_missing_score_passes_no_floor(score: float | None) -> None:
    rows = trajectory("half", 0.1, 0.9)
    rows[0]["score_b"] = rows[1]["score_b"] = score
    pairs, report = sft_pairs(rows, Stage3(pairs=Pairs(floors={"b": -1.0})))
    assert not pairs
    assert report.below_floor == 1


def test_a_round_without_scores_is_beaten_by_nothing() -> None:
    rows = trajectory("blind", 0.1, 0.9)
    rows[0]["score_a"] = rows[0]["score_b"] = None
    pairs, report = sft_pairs(rows, Stage3())
    assert not pairs
    assert report.not_better == 1


def test_floors_name_verifiers_of_the_recipe() -> None:
    verifiers = [{"class_path": "rapo_lightning.verifiers.TextFidelity"}]
    recipe = Recipe(stage2=Stage2(verifiers=verifiers), stage3=Stage3(pairs=Pairs(floors={"text_fidelity": 0.5})))  # type: ignore[list-item]
    check_verifier_names(recipe)
    recipe.stage2.ranking = Ranking(weights={"text_fidelity": 2}, gates={"motion": 0.5})
    with pytest.raises(UserError, match=r"`stage2.ranking.gates` .*\(text_fidelity\). Got motion"):
        check_verifier_names(recipe)
    recipe.stage2.ranking = Ranking()
    recipe.stage3.pairs.floors["lab_oracel"] = 0.7
    with pytest.raises(UserError, match=r"\(text_fidelity\). Got lab_oracel"):
        check_verifier_names(recipe)


def test_no_prompt_is_on_both_sides() -> None:
    pairs = [SftPair([], [], 0.0, f"{number % 50}") for number in range(200)]
    training, validation = split_pairs(pairs, Pairs(validation_share=0.3))
    assert len(training) + len(validation) == 200
    assert not {pair.prompt_id for pair in training} & {pair.prompt_id for pair in validation}
    assert validation
    one, none = split_pairs(pairs[:1], Pairs(validation_share=0.3))
    assert len(one) + len(none) == 1


@pytest.mark.parametrize(
    ("content", "message"), [("a,b\n", "needs the columns"), ("prompt,completion\nx,\n", "no complete row")]
)
def test_bad_pairs_csv_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_pairs_csv(path, Stage3())


def test_loss_is_on_the_completion_alone(language_model: Path) -> None:
    _, tokenizer = load_causal_model(str(language_model), "float32")
    tokens = tokenize_pairs([PAIR], tokenizer)[0]
    counted = [token for token, label in zip(tokens["input_ids"], tokens["labels"], strict=True) if label != IGNORED]
    assert tokenizer.decode(counted) == "a red ball<|im_end|>"
    assert tokenizer.decode(tokens["input_ids"][: -len(counted)]).endswith("<|im_start|>assistant\n")


def test_batches_are_padded_and_long_pairs_dropped(language_model: Path) -> None:
    _, tokenizer = load_causal_model(str(language_model), "float32")
    long = SftPair(PAIR.prompt, [{"role": "assistant", "content": "word " * 300}], 0.5, "long")
    short = SftPair(PAIR.prompt, [{"role": "assistant", "content": "x"}], 0.5, "short")
    with pytest.warns(UserWarning, match="1 pairs exceed"):
        data = PairDataModule([PAIR, short, long], [], tokenizer, 2, 200, seed=0)
    batch = next(iter(data.train_dataloader()))
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    assert int(batch["attention_mask"].sum(1).min()) < batch["input_ids"].shape[1]
    assert data.val_dataloader() == []
    for training, validation, kind in (([long], [], "training"), ([short], [long], "validation")):
        with pytest.raises(UserError, match=f"a {kind} pair that fits"), pytest.warns(UserWarning, match="exceed"):
            PairDataModule(training, validation, tokenizer, 2, 200, seed=0)
    assert tokenizer.padding_side == "left"


def test_checkpoint_holds_the_adapter_and_refuses_another(language_model: Path) -> None:
    def module(rank: int) -> RefinerModule:
        base, _ = load_causal_model(str(language_model), "float32")
        return RefinerModule(base, Stage3(lora=Lora(r=rank, target_modules=["q_proj"])), seed=0)

    first = module(2)
    state = first.state_dict()
    assert state
    assert all("lora_" in name for name in state)
    changed = {name: value + 1 for name, value in state.items()}
    first.load_state_dict(changed)
    assert all(torch.equal(first.state_dict()[name], changed[name]) for name in changed)
    with pytest.raises(RunError, match="belongs to another adapter"):
        first.load_state_dict(dict(list(state.items())[1:]))
