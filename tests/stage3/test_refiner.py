from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from rapo_lightning import Refiner
from rapo_lightning.data.ids import derived_seed
from rapo_lightning.data.resources import find
from rapo_lightning.errors import UserError
from rapo_lightning.models.refiner_folder import RefinerFolder, read_refiner
from rapo_lightning.prompting.answers import Refined
from rapo_lightning.prompting.chat import Messages, Sampling
from tests.helpers import WordEmbedder


def test_refiner_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"refiner\.yaml"):
        Refiner.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="Got 'nowhere'"):
        Refiner.from_pretrained("nowhere")


def test_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "refiner.yaml").write_text(
        yaml.safe_dump({"base_model": "one", "system": "x", "sampling": {}, "seed": 0})
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps({}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"trained on 'one'.*Got the base model 'other'"):
        Refiner.from_pretrained(tmp_path, base="other")


class Scripted:
    """A language model that says what it is told to; sampled answers show their seed and their number."""

    def __init__(self, *answers: str, sampled: Sequence[str] = ()) -> None:
        self.given, self.sampled = list(answers), list(sampled)
        self.seeds: list[list[int]] = []
        self.samplings: list[Sampling] = []

    def complete(
        self, conversations: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, count: int = 1
    ) -> list[list[str]]:
        self.seeds.append(list(seeds))
        self.samplings.append(sampling)
        if len(self.samplings) % 2 == 0 and self.sampled:
            return [self.sampled[:count] for _ in conversations]
        return [[answer] for answer in self.given[: len(conversations)]]


def scripted(*answers: str, sampled: Sequence[str] = (), **options: Any) -> Refiner:
    settings = RefinerFolder(Path(), "base", "system", Sampling(temperature=0.0, max_new_tokens=9))
    return Refiner(settings, Scripted(*answers, sampled=sampled), **options)  # type: ignore[arg-type]


def test_every_prompt_says_how_its_text_came_about() -> None:
    long = "A red ball rolls. " + " ".join(f"word{number}" for number in range(6))
    refine = scripted(" \n", "a red\n ball", long, "I cannot do that.", "a ball " * 9, "<think>so", max_words=5)
    prompts = ["one", "two", "three", "four", "five", "six"]
    assert refine.refine(prompts) == [
        Refined("one", "one", "empty"), Refined("two", "a red ball"), Refined("three", "A red ball rolls.", "cut"),
        Refined("four", "four", "answer"), Refined("five", "five", "repeats"), Refined("six", "six", "thinking"),
    ]  # fmt: skip
    assert refine(prompts) == ["one", "a red ball", "A red ball rolls.", "four", "five", "six"]
    assert refine.refine([]) == []
    # Unchecked, for the stages that check by themselves.
    assert refine.answers(["one", "two", "three", "four"])[:2] == ["", "a red ball"]


def test_a_call_says_once_for_each_reason_that_a_prompt_stays(capsys: pytest.CaptureFixture[str]) -> None:
    refine = scripted("", "", "I cannot.", "a fine ball")
    assert refine(["x" * 100, "two", "three", "four"]) == ["x" * 100, "two", "three", "a fine ball"]
    refine(["again", "again"])
    out, err = capsys.readouterr()
    assert not out
    assert err.count("stays as it is") == 2
    assert "said nothing ('" + "x" * 60 + " ...')" in err
    assert "answered instead of rewriting ('three')" in err
    refine.refine(["quiet"])
    assert not capsys.readouterr().err


def test_an_unfaithful_answer_leaves_the_prompt() -> None:
    answers = ("a red ball rolls", "some other thing entirely")
    checked = scripted(*answers, faithfulness=WordEmbedder(), threshold=0.5)
    assert [item.reason for item in checked.refine(["a red ball", "a red ball"])] == ["", "unfaithful"]
    assert [item.reason for item in scripted(*answers).refine(["a red ball", "a red ball"])] == ["", ""]
    seen: list[tuple[str, str]] = []

    def score(request: str, prompt: str) -> float:
        seen.append((request, prompt))
        return float("nan") if "other" in prompt else 0.3

    asked = scripted(*answers, "", faithfulness=score)
    assert [item.reason for item in asked.refine(["a", "b", "c"])] == ["", "unfaithful", "empty"]
    assert seen == [("a", answers[0]), ("b", answers[1])]


def test_the_most_faithful_usable_candidate_is_taken() -> None:
    sampled = ["a red cube", "I cannot.", "a red ball rolls", "a red ball rolls"]
    refine = scripted("a cube", sampled=sampled, candidates=5, faithfulness=WordEmbedder(), threshold=0.5)
    assert refine.refine(["a red ball"]) == [Refined("a red ball", "a red ball rolls")]
    assert refine.refine(["a red ball"]) == [Refined("a red ball", "a red ball rolls")]
    model = refine.model
    assert isinstance(model, Scripted)
    own, further = model.seeds[:2]
    assert model.seeds[2:] == [own, further]
    assert own == [derived_seed(0, "a red ball")] != further
    # The folder decodes greedily: others must be sampled, or they would be the same.
    assert [item.temperature for item in model.samplings[:2]] == [0.0, Sampling().temperature]
    assert model.samplings[1].max_new_tokens == 9
    equal = scripted("a ball", sampled=["a cube"], candidates=2, faithfulness=lambda request, prompt: 1.0)
    assert equal("x") == "a ball"
    saved = scripted("", sampled=["a ball"], candidates=2, faithfulness=lambda request, prompt: 1.0)
    assert saved.refine(["x"]) == [Refined("x", "a ball")]
    lost = scripted("", sampled=["I cannot."], candidates=2, faithfulness=lambda request, prompt: 1.0)
    assert lost.refine(["x"]) == [Refined("x", "x", "empty")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 0}, "Got candidates=0"),
        ({"max_words": 0}, "max_words=0"),
        ({"candidates": 2}, "Got 2 candidates and none"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        scripted("", **options)


def test_what_is_no_measure_is_named() -> None:
    with pytest.raises(UserError, match="Got str; give one"):
        scripted("a", faithfulness="words")


def test_identity_changes_with_all_that_decides_a_text(folder: Path) -> None:
    def score(request: str, prompt: str) -> float:
        return 1.0

    settings = read_refiner(folder)
    options: list[dict[str, Any]] = [
        {}, {"max_words": 60}, {"faithfulness": score}, {"faithfulness": WordEmbedder()}, {"allow_other_base": True},
        {"faithfulness": score, "threshold": 0.4}, {"faithfulness": score, "candidates": 2},
    ]  # fmt: skip
    found = [Refiner(settings, Scripted(), **item).identity() for item in options]  # type: ignore[arg-type]
    assert len(set(found)) == len(options)
    assert found == [Refiner(settings, Scripted(), **item).identity() for item in options]  # type: ignore[arg-type]
    # Without a measure there is nothing to be above.
    assert Refiner(settings, Scripted(), threshold=0.9).identity() == found[0]  # type: ignore[arg-type]


def test_shipped_refiner_is_small() -> None:
    folder = find("ckpt/lab/refiner")
    assert folder is not None
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 5e6
    assert Refiner.from_pretrained(folder, base="smollm2-135m-instruct").settings.sampling.temperature == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a shipped refiner's folder."""
    shipped = find("ckpt/lab/rewriter")
    assert shipped is not None
    shutil.copytree(shipped, tmp_path / "refiner")
    return tmp_path / "refiner"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "while parsing"),
        ("- a", "a list instead of fields"),
        ("base_model: x\nsystem: ''\nsampling: {}\nseed: 0\n", "no instruction"),
        ("system: y\nsampling: {}\nseed: 0\n", "base_model"),
        ("base_model: x\nsystem: y\nsampling: {temperature: hot}\nseed: 0\n", "temperature"),
        ("base_model: x\nsystem: y\nsampling: {temperature: -1}\nseed: 0\n", "temperature"),
        ("base_model: x\nsystem: y\nsampling: {}\nseed: 0\nfoo: 1\n", "foo"),
    ],
)
def test_damaged_settings_are_named(folder: Path, text: str, message: str) -> None:
    (folder / "refiner.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"Got .*refiner/refiner\.yaml: .*{message}.*; restore"):
        read_refiner(folder)


def test_a_cut_off_adapter_is_named(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="whole safetensors file"):
        read_refiner(folder)


def test_identity_changes_with_adapter_and_settings_alone(folder: Path) -> None:
    before = read_refiner(folder).identity()
    (folder / "README.md").write_text("another card")
    assert read_refiner(folder).identity() == before
    (folder / "refiner.yaml").write_text((folder / "refiner.yaml").read_text().replace("seed: 0", "seed: 1"))
    assert read_refiner(folder).identity() != before
