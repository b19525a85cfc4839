"""The objectives' losses against their formulas."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datamodules.packs import IGNORED
from rapo_lightning.models.causal_model import load_causal_model
from rapo_lightning.recipe import Stage3
from rapo_lightning.recipe.objectives import Dpo as DpoSettings
from rapo_lightning.recipe.objectives import WeightedSft as WeightedSettings
from rapo_lightning.stage3.adapter import trainable
from rapo_lightning.stage3.objectives import Dpo, Kto, PreferenceAccuracy, Reward, Sft, WeightedSft
from rapo_lightning.stage3.objectives.likelihood import token_losses
from rapo_lightning.stage3.objectives.preference import REFERENCE, reference
from rapo_lightning.stage3.objectives.supervised import pair_weights
from tests.stage3.runs import preference_row, sft_row

ROWS = [preference_row("a ball", "a red ball rolls", "a ball"), preference_row("a square", "a blue square", "x y z")]


def log_probability(model: torch.nn.Module, head: list[int], answer: list[int]) -> torch.Tensor:
    """Of an answer alone, without padding."""
    logits = model(input_ids=torch.tensor([head + answer])).logits[0].log_softmax(-1)
    return sum(logits[len(head) + place - 1, token] for place, token in enumerate(answer))  # type: ignore[return-value]


def adapted(language_model: Path) -> tuple[torch.nn.Module, object]:
    """A model whose adapter changes its answers."""
    base, tokenizer = load_causal_model(str(language_model), "float32")
    model = trainable(base, Stage3())
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval(), tokenizer


def test_dpo_is_its_formula(language_model: Path) -> None:
    model, tokenizer = adapted(language_model)
    objective = Dpo(Stage3(objective="dpo", dpo=DpoSettings(beta=0.3)), tokenizer)
    examples = objective.examples(ROWS, True)
    found = objective.loss(model, objective.collate([*examples, objective.blank(examples[0])]))
    expected, preferred = [], 0
    for item in examples:
        gained = []
        for side in ("chosen_ids", "rejected_ids"):
            own = log_probability(model, item["prompt_ids"], item[side])
            with reference(model):
                gained.append(own - log_probability(model, item["prompt_ids"], item[side]))
        expected.append(-torch.nn.functional.logsigmoid(0.3 * (gained[0] - gained[1])))
        preferred += int(gained[0] > gained[1])
    torch.testing.assert_close(found.total, sum(expected), rtol=1e-4, atol=1e-4)
    assert abs(float(found.total) - 2 * 0.6931) > 1e-3
    assert int(found.count) == 2
    assert [int(share) for share in found.shares["preference"]] == [preferred, 2]


def test_the_reference_is_left_again(language_model: Path) -> None:
    model, _ = adapted(language_model)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for _ in range(2):
        with reference(model):
            pass
        assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == trained
        if REFERENCE not in model.peft_config:
            model.add_adapter(REFERENCE, model.peft_config["default"])
            model.set_adapter("default")


def test_weights_have_a_mean_of_one_over_the_tokens() -> None:
    weights = pair_weights([0.0, 0.3, None, 9.0], [2, 4, 3, 1], 0.3)
    assert sum(weight * count for weight, count in zip(weights, [2, 4, 3, 1], strict=True)) == pytest.approx(10)
    assert weights[1] / weights[0] == pytest.approx(2.718282, rel=1e-5)
    # What has no gap counts as the median, and no pair counts more than 20 times what one without a gain does.
    assert weights[2] == weights[1]
    assert weights[3] / weights[0] == pytest.approx(20)
    assert pair_weights([100.0, -1e6, 0.5], [1, 1, 1], 1e-3) == pytest.approx([1.5, 0, 1.5])
    assert pair_weights([-1e6, -1e6], [1, 3], 1e-3) == pytest.approx([1, 1])


def test_weights_scale_the_loss_and_equal_ones_leave_it(language_model: Path) -> None:
    model, tokenizer = adapted(language_model)
    rows = [sft_row("a ball", "a red ball", 0.1), sft_row("a square", "a blue square falls", 0.7)]
    plain = Sft(Stage3(), tokenizer)
    weighted = WeightedSft(Stage3(objective="weighted_sft", weighted_sft=WeightedSettings(temperature=0.2)), tokenizer)
    examples = weighted.examples(rows, True)
    apart = [
        plain.loss(model, plain.collate([{key: item[key] for key in ("input_ids", "labels")}])) for item in examples
    ]
    found = weighted.loss(model, weighted.collate(examples))
    expected = sum(item["weight"] * part.total for item, part in zip(examples, apart, strict=True))
    torch.testing.assert_close(found.total, expected, rtol=1e-5, atol=1e-5)
    assert int(found.count) == sum(int(part.count) for part in apart)
    assert "weight" not in weighted.examples(rows, False)[0]
    equal = weighted.examples([sft_row("a ball", "a red ball", 0.4), sft_row("a square", "x", 0.4)], True)
    assert [item["weight"] for item in equal] == pytest.approx([1, 1])


def test_preference_accuracy_is_per_token(language_model: Path) -> None:
    model, tokenizer = adapted(language_model)
    accuracy = PreferenceAccuracy(Stage3(), tokenizer)
    (item,) = accuracy.examples(ROWS[:1], False)
    likely = {
        side: log_probability(model, item["prompt_ids"], item[side]) / len(item[side])
        for side in item
        if side != "prompt_ids"
    }
    preferred, of = accuracy.loss(model, accuracy.collate([item, accuracy.blank(item)])).shares["preference"]
    assert (int(preferred), int(of)) == (int(likely["chosen_ids"] > likely["rejected_ids"]), 1)


def test_batches_have_the_names_of_trl(language_model: Path) -> None:
    _, tokenizer = load_causal_model(str(language_model), "float32")
    rows = [{**sft_row("a ball", "a red ball"), "label": True}, {**sft_row("a square", "x"), "label": False}]
    kto = Kto(Stage3(), tokenizer)
    batch = kto.collate(kto.examples(rows, True))
    assert batch["label"].tolist() == [True, False]
    answers = [batch["input_ids"][row][batch["completion_mask"][row] == 1].tolist() for row in range(2)]
    moved = [batch["KL_input_ids"][row][batch["KL_completion_mask"][row] == 1].tolist() for row in range(2)]
    assert moved == answers[::-1]
    reward = Reward(Stage3(), tokenizer)
    assert {name: value.shape[0] for name, value in reward.collate(reward.examples(ROWS, True)).items()} == {
        "input_ids": 4, "attention_mask": 4,
    }  # fmt: skip
    sft = Sft(Stage3(), tokenizer)
    (example,) = sft.examples(rows[:1], True)
    assert set(sft.blank(example)["labels"]) == {IGNORED}


def test_what_sequences_begin_with_in_common_is_computed_once(language_model: Path) -> None:
    model, tokenizer = adapted(language_model)
    rows = [sft_row(f"ball {number}", "a red ball rolls " * (1 + number % 3)) for number in range(5)]
    sft = Sft(Stage3(), tokenizer)
    batch = sft.collate(sft.examples(rows, True))
    found = []
    for share in (False, True):
        lengths: list[int] = []
        hook = (
            model.get_base_model()
            .model.layers[0]
            .register_forward_pre_hook(
                lambda _, inputs, lengths=lengths: lengths.append(inputs[0].shape[0] * inputs[0].shape[1])
            )
        )
        losses = token_losses(model, batch, batch["labels"], share=share)
        losses.sum().backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
        model.zero_grad()
        hook.remove()
        found.append((losses.detach(), gradients, sum(lengths)))
    (plain, expected, all_of_it), (shared, gradients, less) = found
    assert less < 0.8 * all_of_it
    assert plain.shape == shared.shape == batch["labels"][:, 1:].shape
    torch.testing.assert_close(shared, plain, rtol=1e-4, atol=1e-5)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
