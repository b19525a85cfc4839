from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rapo_lightning.errors import UserError
from rapo_lightning.models import DiffusersVideoModel, TransformersLanguageModel
from rapo_lightning.models.sampling import SeededGumbel, row_uniform
from rapo_lightning.prompting.chat import Sampling

CALL = {
    "height": 64,
    "width": 64,
    "num_frames": 5,
    "num_inference_steps": 1,
    "guidance_scale": 1.0,
    "max_sequence_length": 64,
}


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_seeded_sampling_follows_the_softmax() -> None:
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(20_000, 1)
    sampler = SeededGumbel(torch.arange(20_000), prompt_length=0, top_k=4)
    chosen = sampler(torch.zeros(20_000, 3, dtype=torch.long), scores).argmax(-1)
    shares = torch.bincount(chosen, minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.012, rtol=0)


def test_row_numbers_are_uniform_and_depend_on_each_part() -> None:
    tokens = torch.arange(1000)[None].repeat(50, 1)
    uniform = row_uniform(torch.arange(50), 3, tokens)
    assert 0 < float(uniform.min()) < float(uniform.max()) < 1
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef(uniform[0], uniform[1])[0, 1]) < 0.15
    assert not torch.equal(uniform, row_uniform(torch.arange(50), 4, tokens))


def test_answers_do_not_depend_on_the_batch(language_model: Path) -> None:
    conversations = [chat("a ball"), chat("a much longer request with many words"), chat("x")]
    sampling = Sampling(temperature=1.0, max_new_tokens=12)
    together = TransformersLanguageModel(str(language_model), "float32", 6).complete(
        conversations, [1, 2, 3], sampling, 2
    )
    alone = TransformersLanguageModel(str(language_model), "float32", 1)
    for conversation, seed, answers in zip(conversations, [1, 2, 3], together, strict=True):
        assert alone.complete([conversation], [seed], sampling, 2) == [answers]
        assert len(set(answers)) == 2


def test_temperature_zero_is_greedy(language_model: Path) -> None:
    model = TransformersLanguageModel(str(language_model), "float32", 4)
    first, second = model.complete([chat("a ball")] * 2, [1, 2], Sampling(temperature=0.0, max_new_tokens=6))
    assert first == second


def test_video_depends_on_prompt_and_seed_alone() -> None:
    model = DiffusersVideoModel("lab/video_model", call=CALL, fps=8, dtype="float32", batch_size=2)
    three = model.generate(["a red ball", "a blue square", "a ball"], [5, 6, 7])
    again = model.generate(["a blue square"], [6])
    assert three[0].shape == (5, 64, 64, 3)
    assert three[0].dtype == np.uint8
    np.testing.assert_array_equal(three[1], again[0])
    assert not np.array_equal(model.generate(["a blue square"], [8])[0], again[0])


def test_missing_checkpoint_is_named() -> None:
    with pytest.raises(UserError, match="Got 'runs/nothing'"):
        DiffusersVideoModel("runs/nothing").load()
