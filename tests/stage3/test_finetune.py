"""`finetune` on a tiny recipe: what it writes, that it resumes, and that it says what is wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoTokenizer

from rapo_lightning import Refiner
from rapo_lightning.cli import main
from rapo_lightning.models.refiner import refiner_messages
from rapo_lightning.stage3 import run as command
from rapo_lightning.stage3.engines.lightning.module import RefinerModule
from tests.helpers import run_cli, tiny_recipe
from tests.stage3.runs import write_rounds

ALLOW = ("--allow_package", "tests")


def val_losses(folder: Path) -> list[tuple[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [(row["epoch"], row["val_loss"]) for row in csv.DictReader(file) if row["val_loss"]]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "refiner/adapter_model.safetensors")


def same_adapter(first: Path, second: Path) -> bool:
    whole, other = adapter(first), adapter(second)
    return whole.keys() == other.keys() and all(torch.equal(whole[name], other[name]) for name in whole)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_finetune_writes_a_refiner_that_learned(trained: Path) -> None:
    card = (trained / "refiner/README.md").read_text()
    assert "10 pairs from 10 prompts" in card
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["train_loss_epoch"]) for row in rows if row["train_loss_epoch"]]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    rates = [float(row["lr-AdamW"]) for row in rows if row["lr-AdamW"]]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(0.01)
    assert list((trained / "logs").rglob("events.out.tfevents*"))


def test_the_folder_says_all_that_a_refiner_needs(trained: Path, language_model: Path) -> None:
    folder = trained / "refiner"
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", "refiner.yaml", "vocabulary.txt"} <= names
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= names
    config = yaml.safe_load((folder / "refiner.yaml").read_text())
    assert config["system"].startswith("You rewrite a short request")
    assert config["base_identity"]
    assert config["system"] in (folder / "README.md").read_text()
    assert config["base_identity"] in (folder / "README.md").read_text()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(language_model)
    assert {tensor.dtype for tensor in adapter(trained).values()} == {torch.bfloat16}


def test_plain_peft_answers_as_the_refiner_does(trained: Path) -> None:
    folder = trained / "refiner"
    refine = Refiner.from_pretrained(folder)
    model = AutoPeftModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    system = yaml.safe_load((folder / "refiner.yaml").read_text())["system"]
    for prompt in ("ball 3", "a blue square"):
        inputs = tokenizer.apply_chat_template(
            refiner_messages(prompt, system), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(**inputs, max_new_tokens=6, do_sample=False)
        answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert refine.answers([prompt]) == [" ".join(answer.split())]


def test_known_bases_are_named_as_others_find_them() -> None:
    from rapo_lightning.stage3.export import hub_name

    assert hub_name("smollm2-135m-instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert hub_name("owner/model") == "owner/model"


def test_finetune_again_does_nothing(recipe: Path, trained: Path, capsys: pytest.CaptureFixture[str],
                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    before = contents(trained)
    monkeypatch.setattr(command, "load_causal_model", None)
    assert main(["finetune", str(recipe), "--out", str(trained), *ALLOW]) == 0
    assert "This training is done" in capsys.readouterr().out
    assert contents(trained) == before


def test_a_finished_run_that_was_moved_stays_as_it_is(recipe: Path, copied: Path) -> None:
    before = contents(copied)
    assert main(["finetune", str(recipe), "--out", str(copied), *ALLOW]) == 0
    assert contents(copied) == before


def test_a_refiner_that_is_missing_is_written_again(recipe: Path, trained: Path, copied: Path) -> None:
    shutil.rmtree(copied / "refiner")
    checkpoints = contents(copied / "checkpoints")
    assert main(["finetune", str(recipe), "--out", str(copied), *ALLOW]) == 0
    assert same_adapter(trained, copied)
    assert contents(copied / "checkpoints") == checkpoints
    assert val_losses(copied) == val_losses(trained)


def test_other_settings_replace_the_refiner_and_the_first_ones_bring_it_back(
    recipe: Path, trained: Path, copied: Path
) -> None:
    assert main(["finetune", str(recipe), "--out", str(copied), "--stage3.epochs", "1", *ALLOW]) == 0
    assert not same_adapter(trained, copied)
    assert main(["finetune", str(recipe), "--out", str(copied), *ALLOW]) == 0
    assert same_adapter(trained, copied)
    assert not [path for path in copied.iterdir() if path.name.startswith("refiner.")]


@pytest.fixture
def unplugged(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run that was cut off in its second epoch."""
    folder = write_rounds(tmp_path / "run", recipe)

    def stop(self: RefinerModule) -> None:
        if self.current_epoch == 1:
            raise SystemError("pulled the plug")

    monkeypatch.setattr(RefinerModule, "on_train_epoch_start", stop, raising=False)
    with pytest.raises(SystemError, match="plug"):
        main(["finetune", str(recipe), "--out", str(folder), *ALLOW])
    monkeypatch.undo()
    assert not (folder / "refiner").exists()
    return folder


def test_finetune_resumes_exactly(unplugged: Path, trained: Path, recipe: Path) -> None:
    assert main(["finetune", str(recipe), "--out", str(unplugged), "--allow_package", "tests"]) == 0
    assert len(val_losses(trained)) == 3
    assert val_losses(unplugged) == val_losses(trained)
    assert same_adapter(trained, unplugged)


def test_finetune_resumes_exactly_in_a_folder_that_was_moved(unplugged: Path, trained: Path, recipe: Path) -> None:
    moved = unplugged.with_name("elsewhere")
    unplugged.rename(moved)
    # A best score that no later epoch reaches: it must be known still.
    for path in (moved / "checkpoints").rglob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        for key, state in checkpoint["callbacks"].items():
            if "'monitor': 'val_loss'" in key and ModelCheckpoint.__name__[5:] in key:
                state["best_model_score"] = state["kth_value"] = torch.tensor(0.0)
                state["best_k_models"] = dict.fromkeys(state["best_k_models"], torch.tensor(0.0))
        torch.save(checkpoint, path)
    best = next((moved / "checkpoints").rglob("best.ckpt")).read_bytes()
    assert main(["finetune", str(recipe), "--out", str(moved), "--allow_package", "tests"]) == 0
    assert next((moved / "checkpoints").rglob("best.ckpt")).read_bytes() == best
    assert val_losses(moved) == val_losses(trained)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_damaged_checkpoint_is_named(
    unplugged: Path, recipe: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    last = next((unplugged / "checkpoints").rglob("last.ckpt"))
    last.write_bytes(last.read_bytes()[:size])
    assert main(["finetune", str(recipe), "--out", str(unplugged), *ALLOW]) == 1
    error = capsys.readouterr().err
    assert str(last) in error
    assert f"Delete {last.parent}" in error
    shutil.rmtree(last.parent)
    assert main(["finetune", str(recipe), "--out", str(unplugged), *ALLOW]) == 0


@pytest.mark.parametrize("packing", ["padding", "packs"])
def test_two_processes_train_one_refiner(packing: str, recipe: Path, tmp_path: Path) -> None:
    write_rounds(tmp_path, recipe)
    options = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--stage3.lora.dropout", "0"]
    # Padded, each process has two forward passes a step.
    options += [
        "--stage3.optimizer.batch_size",
        "4",
        "--stage3.optimizer.packing",
        packing,
        "--stage3.optimizer.pack_tokens",
        "1024",
    ]
    result = run_cli("finetune", str(recipe), "--out", str(tmp_path), *options, *ALLOW)
    assert result.returncode == 0, result.stderr
    alone = write_rounds(tmp_path / "alone", recipe)
    assert main(["finetune", str(recipe), "--out", str(alone), *options[4:], *ALLOW]) == 0
    # The sampler deals the same pairs to a step, and the loss is a mean over the tokens of all of them: only rounding.
    for (_, together), (_, single) in zip(val_losses(tmp_path), val_losses(alone), strict=True):
        assert float(together) == pytest.approx(float(single), rel=1e-4)


def test_callbacks_come_from_the_recipe(language_model: Path, tmp_path: Path) -> None:
    stopping: dict[str, Any] = {
        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
        "init_args": {"monitor": "val_loss", "patience": 1, "min_delta": 100.0},
    }
    recipe = tiny_recipe(tmp_path, language_model, trainer__callbacks=[stopping], stage3__epochs=9)
    folder = write_rounds(tmp_path / "run", recipe)
    assert main(["finetune", str(recipe), "--out", str(folder), *ALLOW]) == 0
    assert [epoch for epoch, _ in val_losses(folder)] == ["0", "1"]
    before = contents(folder)
    assert main(["finetune", str(recipe), "--out", str(folder), *ALLOW]) == 0
    assert contents(folder) == before


def test_fast_dev_run_exports_nothing(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_rounds(tmp_path, recipe)
    assert main(["finetune", str(recipe), "--out", str(folder), "--trainer.fast_dev_run", "true", *ALLOW]) == 0
    assert "nothing is exported" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {"trajectories", "recipe.yaml", "recipes", "README.md"}


def test_finetune_without_trajectories_says_what_to_do(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["finetune", str(recipe), "--out", str(tmp_path), *ALLOW]) == 2
    assert "run `collect`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage3__pairs": [{"filter": "floors", "least": {"lab_oracel": 0.7}}]}, "Got lab_oracel; correct the name"),
        ({"language_model__class_path": "tests.helpers.Silent", "language_model__init_args": {}}, "without one"),
        ({"stage3__optimizer__batch_size": 3, "stage3__optimizer__micro_batch_size": 2}, "micro_batch_size divides"),
        ({"stage3__optimizer__micro_batch_size": 0}, "micro_batch_size divides"),
        ({"stage3__lora__r": 0}, "r and alpha >= 1"),
        ({"stage3__max_length": 5000}, "must not exceed the context of the language model. Got 5000 tokens, and"),
        ({"stage3__sampling__temperature": float("nan")}, "a finite temperature >= 0"),
        ({"trainer__strategy": "fsdp"}, "`trainer"),
    ],
)
def test_mistakes_are_found_before_a_model_is_loaded(
    changes: dict[str, Any], message: str, language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    recipe = tiny_recipe(tmp_path, language_model)
    folder = write_rounds(tmp_path / "run", recipe)
    monkeypatch.setattr(command, "load_causal_model", None)
    changed = tiny_recipe(tmp_path, language_model, **changes)
    assert main(["finetune", str(changed), "--out", str(folder), *ALLOW]) == 2
    assert message in capsys.readouterr().err


def test_validate_finds_a_misspelt_floor(
    language_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, language_model, stage3__pairs=[{"filter": "floors", "least": {"lab_oracel": 0.7}}])
    assert main(["validate", str(recipe), *ALLOW]) == 2
    assert "Got lab_oracel; correct the name" in capsys.readouterr().err


def test_layers_that_the_model_lacks_are_named(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_rounds(tmp_path, recipe)
    options = ["--stage3.lora.target_modules", "[no_such_layer]"]
    assert main(["finetune", str(recipe), "--out", str(folder), *options, *ALLOW]) == 2
    assert "no_such_layer" in capsys.readouterr().err


def test_finetune_from_a_csv(recipe: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("prompt,completion\n" + "".join(f"ball {i},a red ball {i}\n" for i in range(6)))
    out = tmp_path / "run"
    command = ["finetune", str(recipe), "--out", str(out), "--pairs", str(pairs), "--stage3.epochs", "1", *ALLOW]
    assert main(command) == 0
    assert "6 pairs from 6 prompts (6 ready pairs of pairs.csv" in (out / "refiner/README.md").read_text()
