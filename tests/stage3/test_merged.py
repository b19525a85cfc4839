"""A refiner for others: merged into its base, as plain PEFT loads it, and on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rapo_lightning import Refiner
from rapo_lightning.cli import main
from rapo_lightning.models.refiner import refiner_messages
from rapo_lightning.models.refiner_folder import read_refiner
from rapo_lightning.prompting.chat import Sampling
from rapo_lightning.stage3.merged import _set_decoding
from tests.helpers import tiny_language_model, tiny_recipe
from tests.stage3.conftest import ALLOW
from tests.stage3.runs import write_rounds

PROMPTS = ("ball 3", "a blue square")


def greedy(model: Any, tokenizer: Any, folder: Path, prompt: str) -> str:
    inputs = tokenizer.apply_chat_template(
        refiner_messages(prompt, read_refiner(folder).system),
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    output = model.generate(**inputs)
    return " ".join(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).split())


@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_a_merged_refiner_answers_without_peft_and_without_us(
    variant: str, trained: Path, language_model: Path, tmp_path: Path
) -> None:
    run = trained
    if variant == "dora":
        recipe = tiny_recipe(tmp_path, language_model, stage3__lora__variant="dora", stage3__epochs=1)
        run = write_rounds(tmp_path / "run", recipe)
        assert main(["finetune", str(recipe), "--out", str(run), *ALLOW]) == 0
        assert "vLLM cannot load a DoRA adapter" in (run / "refiner/README.md").read_text()
    folder = tmp_path / "merged"
    assert main(["export", str(run), "--merged", str(folder)]) == 0
    names = {path.name for path in folder.iterdir()}
    assert {
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
        "README.md",
    } <= names
    assert not [name for name in names if "adapter" in name]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert not hasattr(model, "peft_config")
    assert model.generation_config.max_new_tokens == 6
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(language_model), str(run / "refiner")).eval()
    tokens = torch.arange(40).view(2, 20)
    with torch.inference_mode():
        assert torch.allclose(model(tokens).logits, plain(tokens).logits, atol=1e-4)
    refine = Refiner.from_pretrained(run / "refiner")
    assert [greedy(model, tokenizer, run / "refiner", text) for text in PROMPTS] == refine.answers(list(PROMPTS))


def test_a_merged_refiner_is_not_written_over_anything(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    assert main(["export", str(trained / "refiner"), "--merged", str(tmp_path)]) == 2
    assert "which is there already; name another" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert main(["export", str(tmp_path), "--merged", str(tmp_path / "new")]) == 2
    assert "A refiner is a folder with" in capsys.readouterr().err


def test_another_base_is_not_merged_into(
    language_model: Path, trained: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny_language_model(tmp_path / "other")
    model = AutoModelForCausalLM.from_pretrained(other)
    torch.nn.init.normal_(model.lm_head.weight)
    model.save_pretrained(other)
    config = copied / "refiner/refiner.yaml"
    config.write_text(config.read_text().replace(str(language_model), str(other)))
    assert main(["export", str(copied), "--merged", str(tmp_path / "merged")]) == 2
    assert "trained on other weights" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


def test_sampling_becomes_the_generation_config() -> None:
    config = GenerationConfig(do_sample=False, temperature=None, top_p=None, top_k=None)
    _set_decoding(config, Sampling(temperature=0.5, top_p=0.9, top_k=7, max_new_tokens=3))
    assert (config.do_sample, config.temperature, config.top_p, config.top_k) == (True, 0.5, 0.9, 7)
    config.validate(strict=True)


def test_a_refiner_is_pushed_whole_and_private(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []

    class Hub:
        def create_repo(self, name: str, **options: Any) -> None:
            calls.append((name, options))

        def upload_folder(self, **options: Any) -> None:
            if len(calls) > 2:
                raise OSError("no route")
            calls.append(options)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    command = ["export", str(trained), "--push_refiner", "owner/refiner"]
    assert main(command) == 0
    assert calls == [
        ("owner/refiner", {"repo_type": "model", "private": True, "exist_ok": True}),
        {"folder_path": trained / "refiner", "repo_id": "owner/refiner", "repo_type": "model"},
    ]
    assert "seen by its owner alone" in capsys.readouterr().out
    assert main([*command, "--private", "false"]) == 1
    assert calls[2][1]["private"] is False
    assert "The refiner cannot be pushed to 'owner/refiner': no route. Log in" in capsys.readouterr().err
    assert main(["export", str(trained), "--push_refiner", "refiner"]) == 2
    assert "`--push_refiner` needs OWNER/NAME" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "--push_refiner", "owner/refiner"]) == 2
    assert "A refiner is a folder with" in capsys.readouterr().err
    assert len(calls) == 3
