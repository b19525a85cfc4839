from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rapo_lightning.data.prompts import Prompt
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.stage1.discriminator import (
    Discriminator,
    Shape,
    choose_branch,
    features,
    load_discriminator,
    plain_features,
)
from rapo_lightning.stage1.discriminator_training import train_discriminator
from tests.helpers import WordEmbedder


def test_a_discriminator_learns_saves_and_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    embedder, texts = WordEmbedder(), ["a dull thing", "a bright thing"] * 50
    vectors = embedder.encode(texts)
    inputs = features(vectors, vectors, [plain_features(text, text, "original") for text in texts])
    truth = torch.tensor([0.0, 1.0] * 50)
    model = Discriminator(Shape("words", 64, error=0.1))
    optimizer = model.configure_optimizers()
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(torch.from_numpy(inputs)), truth).backward()
        optimizer.step()
    predicted = model.predict(inputs)
    assert predicted[1] - predicted[0] > 0.5
    model.save(tmp_path / "d")
    loaded = load_discriminator(str(tmp_path / "d"), "words")
    np.testing.assert_array_equal(loaded.predict(inputs), predicted)
    assert loaded.shape.error == 0.1
    with pytest.raises(UserError, match="vectors of 'words'. Got the embedder 'other'"):
        load_discriminator(str(tmp_path / "d"), "other")
    with pytest.raises(UserError, match=r"must name a folder with discriminator.yaml .* Got 'nowhere'"):
        load_discriminator("nowhere", "words")
    for name, content in (("discriminator.safetensors", b"x"), ("discriminator.yaml", b"hidden: 3\n")):
        (tmp_path / "d" / name).write_bytes(content)
        with pytest.raises(UserError, match="cannot be read. Got "):
            load_discriminator(str(tmp_path / "d"), "words")


def test_a_lead_within_the_margin_is_none() -> None:
    assert choose_branch({"refactored": 0.5, "instructed": 0.59, "original": 0.4}, 0.1) == "refactored"
    assert choose_branch({"refactored": 0.5, "instructed": 0.7, "original": 0.75}, 0.1) == "instructed"
    assert choose_branch({"original": 0.1}, 0.1) == "original"


def test_plain_features_tell_branch_and_kept_words() -> None:
    assert plain_features("a red ball", "A red cube", "instructed")[:4] == [0.0, 1.0, 0.0, 0.5]


def train(scores: dict[str, list[float]]) -> tuple[Discriminator, dict[str, float]]:
    prompts = [Prompt(f"thing number {i}") for i in range(20)]
    rows = {p.id: {"source_prompt": p.text, "refactored": f"{p.text} bright", "instructed": ""} for p in prompts}
    return train_discriminator(prompts, rows, scores, WordEmbedder(), 0)


def test_a_missing_score_is_left_out_of_training_and_of_the_report() -> None:
    nothing = [math.nan] * 20
    # Prompt 0 is held out and has no score at all; half of the others have one.
    refactored = [0.9 if i % 2 == 0 and i else math.nan for i in range(20)]
    model, report = train({"refactored": refactored, "instructed": nothing, "original": refactored})
    error = report.pop("error")
    assert report == pytest.approx({"refactored": 0.9, "original": 0.9, "chosen": 0.9, "best": 0.9}, abs=1e-6)
    assert error < 0.2
    vectors = WordEmbedder().encode(["thing number 3"])
    inputs = features(vectors, vectors, [plain_features("thing number 3", "thing number 3", "original")])
    # Were the missing ones zeros, it would have learned their mean, 0.45.
    assert model.predict(inputs)[0] > 0.7


@pytest.mark.parametrize("part", ["train on", "test on"])
def test_a_discriminator_without_scores_is_refused(part: str) -> None:
    scores = [0.5 if (i % 10 == 0) == (part == "train on") else math.nan for i in range(20)]
    with pytest.raises(RunError, match=f"prompts to {part}, none with a score"):
        train(dict.fromkeys(("refactored", "instructed", "original"), scores))
