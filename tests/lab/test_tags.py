"""The second caption style, and the model that is trained to follow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from transformers import AutoTokenizer

from rapo_lightning.data.prompts import Prompt, read_prompts
from rapo_lightning.errors import UserError
from rapo_lightning.lab import lexicon
from rapo_lightning.lab.reading import read_caption
from rapo_lightning.lab.scripts import second_style, train_second_model
from rapo_lightning.lab.scripts.second_style import AdaptedDenoiser, sample_tags, style_batches
from rapo_lightning.lab.scripts.timed_training import Batch
from rapo_lightning.lab.scripts.training_data import CAPTION_TOKENS, sample_captions, sample_scenes
from rapo_lightning.lab.scripts.transformer_training import flow_matching_loss
from rapo_lightning.lab.study.prompts import HELDOUT, WRITTEN
from rapo_lightning.lab.tags import HEAD, OtherStyle, TagReader, in_tags, named_by_tags, read_tags
from rapo_lightning.models import DiffusersVideoModel
from rapo_lightning.prompting.text import stem, words
from tests.helpers import ROOT

SHIPPED = ROOT / "ckpt/lab/video_model"
SIZES = ["--clips", "8", "--shrink", "256", "--rank", "4", "--check", "0"]


def _stems(texts: list[str]) -> set[str]:
    return {stem(word) for text in texts for word in words(text)}


def test_tags_are_read_back_and_fit() -> None:
    scenes = sample_scenes(3000, 0)
    texts = sample_tags(scenes, 0)
    assert [read_tags(text) for text in texts] == scenes
    for scene, text in zip(scenes, texts, strict=True):
        assert named_by_tags(text) == {key: {value} for key, value in scene.attributes.items()}, text
    tokens = AutoTokenizer.from_pretrained(SHIPPED / "tokenizer")(texts)["input_ids"]
    assert max(map(len, tokens)) <= CAPTION_TOKENS


def test_tags_share_no_word_with_captions_or_held_out_users() -> None:
    scenes = sample_scenes(3000, 0)
    own = _stems(sample_tags(scenes, 0))
    assert not own & _stems(sample_captions(scenes, 0))
    tables = [value for name, value in vars(lexicon).items() if name.endswith("_WORDS") and isinstance(value, dict)]
    splits = [*(entry for table in tables for entry in table.values()), lexicon.COLLIDE_WORDS, lexicon.BESIDE_WORDS]
    trained = _stems([text for train, *_ in splits for text in train])
    new = _stems([text for _, *others in splits for texts in others for text in texts]) - trained
    assert not own & new


def test_references_change_style_and_back() -> None:
    prompts = [*read_prompts(str(ROOT / HELDOUT), 40), *read_prompts(str(ROOT / WRITTEN), 40)]
    turned = [Prompt(p.text, p.phys_law, in_tags(p.reference)) for p in prompts]
    for one, other in zip(prompts, turned, strict=True):
        assert read_tags(other.reference) == read_caption(one.reference)
        assert other.id == one.id
        assert all(TagReader(str(ROOT / WRITTEN)).right(one.text, other.reference).values())
    back = OtherStyle().texts(turned, None)  # type: ignore[arg-type]
    assert [read_caption(text) for text in back] == [read_caption(prompt.reference) for prompt in prompts]
    assert OtherStyle().texts(prompts, None) == [prompt.reference for prompt in turned]  # type: ignore[arg-type]


def test_what_is_no_line_of_tags() -> None:
    assert read_tags(f"{HEAD}arid; crux median beryl; impact transfer westbound") is None
    assert read_tags("A simple animation shows a small red ball") is None
    assert not TagReader().right("a red ball", f"{HEAD}arid; disc minor cardinal citrine; idle zero")["colour"]
    with pytest.raises(UserError, match="Only captions of the lab have tags"):
        in_tags("a red ball")


def _module(rank: int = 4) -> tuple[AdaptedDenoiser, WanPipeline]:
    pipeline = WanPipeline.from_pretrained(SHIPPED, dtype=torch.float32)
    torch.manual_seed(0)
    return AdaptedDenoiser(pipeline.transformer, pipeline.text_encoder, rank), pipeline


def test_lab_wan_itself_does_not_understand_tags(capsys: pytest.CaptureFixture[str]) -> None:
    found = train_second_model.check(SHIPPED, 3, 0)
    assert found["captions"][0] > 0.7 > 0.5 > found["tags"][0]
    assert "of 3 held-out scenes from tags" in capsys.readouterr().out


def test_batches_have_tags_and_other_scenes_captions() -> None:
    pipeline = WanPipeline.from_pretrained(SHIPPED)
    scenes, latents = sample_scenes(16, 0), torch.zeros(16, 8, 5, 16, 16)
    torch.manual_seed(0)
    _, tokens = style_batches(latents, scenes, pipeline.tokenizer, 400, 0)()
    texts = pipeline.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    own = np.mean([text.strip().startswith(HEAD.strip()) for text in texts])
    assert abs(1 - own - second_style.OTHER_SHARE) < 0.07
    assert all(read_tags(text) or read_caption(text) for text in texts)


def test_adapters_begin_as_nothing_and_merge_without_a_change() -> None:
    module, pipeline = _module()
    batch = torch.randn(2, 8, 5, 16, 16), torch.randint(3, 300, (2, 64))
    fresh = WanPipeline.from_pretrained(SHIPPED, dtype=torch.float32)

    def velocity() -> torch.Tensor:
        with torch.no_grad():
            return module(batch[0], torch.tensor([0.3, 0.6]), batch[1], 128)

    trained = {name for name, value in module.named_parameters() if value.requires_grad}
    assert all("lora_" in name or name.endswith(("shared.weight", "embed_tokens.weight")) for name in trained)
    flow_matching_loss(module, *batch).backward()
    assert all(value.grad is not None for value in module.parameters() if value.requires_grad)
    with torch.no_grad():
        for name, value in module.named_parameters():
            value += 0.01 * torch.randn_like(value) * ("lora_" in name)
    before = velocity()
    module.merge()
    torch.testing.assert_close(velocity(), before, atol=1e-4, rtol=1e-3)
    assert pipeline.transformer.state_dict().keys() == fresh.transformer.state_dict().keys()


class Killed(BaseException):
    """Ends a training, as a signal would."""


def test_a_killed_training_goes_on_and_its_model_is_used_like_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    given = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), *SIZES]
    step = AdaptedDenoiser.training_step

    def killed(self: AdaptedDenoiser, batch: Batch, index: int) -> torch.Tensor:
        if index == 2:
            raise Killed
        return step(self, batch, index)

    monkeypatch.setattr(AdaptedDenoiser, "training_step", killed)
    with pytest.raises(Killed):
        train_second_model.main([*given, "--seconds", "60"])
    monkeypatch.setattr(AdaptedDenoiser, "training_step", step)
    saved = torch.load(tmp_path / "work/second.ckpt", weights_only=True)
    spent = float(saved["callbacks"]["Clock"]["time_elapsed"]["train"])
    train_second_model.main([*given, "--seconds", str(spent + 0.5)])
    # Done already, so that nothing is trained, and the same is written.
    train_second_model.main([*given, "--seconds", str(spent + 0.5)])
    call = {
        "height": 64,
        "width": 64,
        "num_frames": 5,
        "num_inference_steps": 1,
        "guidance_scale": 1.0,
        "max_sequence_length": 128,
    }
    models = [DiffusersVideoModel(str(folder), dtype="float32", call=call) for folder in (tmp_path / "out", SHIPPED)]
    text = sample_tags(sample_scenes(1, 0), 0)
    mine, shipped = (model.generate(text, [0])[0] for model in models)
    assert mine.shape == shipped.shape == (5, 64, 64, 3)
    assert not np.array_equal(mine, shipped)
    names = [
        set(WanPipeline.from_pretrained(folder).text_encoder.state_dict()) for folder in (tmp_path / "out", SHIPPED)
    ]
    assert names[0] == names[1]
