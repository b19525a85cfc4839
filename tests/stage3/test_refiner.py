from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from datamodules.pairs import IGNORED, PairDataModule, tokenize_pairs
from rapo_lightning import Refiner
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models.transformers_language import load_causal_model
from rapo_lightning.prompting.chat import Sampling
from rapo_lightning.recipe import Lora, Pairs, Stage3
from rapo_lightning.stage3.module import RefinerModule, learning_rate_share
from rapo_lightning.stage3.pairs import SftPair, read_pairs_csv, refiner_messages, sft_pairs, split_pairs
from tests.test_trajectory import make_row

PAIR = SftPair(refiner_messages("a ball", "Rewrite."), [{"role": "assistant", "content": "a red ball"}], 0.5, "id")


def trajectory(identity: str, first: float, second: float, prompt: str = "better") -> list[dict[str, object]]:
    return [
        make_row(identity, 0, first, first, source_prompt=identity),
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
    with pytest.raises(UserError, match="at least one training pair"), pytest.warns(UserWarning, match="exceed"):
        PairDataModule([long], [], tokenizer, 2, 200, seed=0)


def test_learning_rate_rises_and_falls() -> None:
    shares = [learning_rate_share(step, 100, 0.1) for step in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == shares[9] == pytest.approx(1.0)
    assert shares[100] == pytest.approx(0.0, abs=1e-9)


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


def test_refiner_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"refiner\.yaml"):
        Refiner.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="Got 'nowhere'"):
        Refiner.from_pretrained("nowhere")


def test_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "refiner.yaml").write_text(yaml.safe_dump({"base_model": "one", "system": "", "sampling": {}}))
    (tmp_path / "adapter_config.json").write_text(json.dumps({}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"trained on 'one'.*Got the base model 'other'"):
        Refiner.from_pretrained(tmp_path, base="other")


def test_an_empty_answer_falls_back_to_the_prompt() -> None:
    class Silent:
        def complete(self, conversations: list[object], seeds: list[int], sampling: Sampling) -> list[list[str]]:
            return [[" \n"], ["a red\n ball"]]

    refine = Refiner(Silent(), "system", Sampling())  # type: ignore[arg-type]
    assert refine.answers(["one", "two"]) == ["", "a red ball"]
    assert refine(["one", "two"]) == ["one", "a red ball"]


def test_shipped_refiner_is_small() -> None:
    from rapo_lightning.data.resources import find

    folder = find("ckpt/lab/refiner")
    assert folder is not None
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 5e6
    assert Refiner.from_pretrained(folder, base="smollm2-135m-instruct").sampling.temperature == 0
