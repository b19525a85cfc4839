from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models import ModelPool, TransformersLanguageModel, transformers_language
from rapo_lightning.models.causal_model import load_causal_model
from rapo_lightning.prompting.chat import Sampling
from tests.helpers import WordEmbedder

GREEDY = Sampling(temperature=0.0, max_new_tokens=8)
TURNS = [[{"role": "user", "content": "a red ball"}], [{"role": "user", "content": "something else"}]]


@pytest.fixture(scope="module")
def adapters(language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two random adapters, strong enough to change every answer; their paths have dots."""
    folders = []
    for seed in (1, 2):
        base, _ = load_causal_model(str(language_model), "float32")
        torch.manual_seed(seed)
        model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
        folder = tmp_path_factory.mktemp(f"adapter.{seed}")
        model.save_pretrained(folder)
        folders.append(str(folder))
    return folders


def answers(model: object) -> list[list[str]]:
    return model.complete(TURNS, [0, 0], GREEDY)  # type: ignore[attr-defined, no-any-return]


def test_adapters_share_one_base_and_answer_as_if_alone(
    language_model: Path, adapters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(language_model)
    alone = [answers(TransformersLanguageModel(name, "float32"))]
    alone += [answers(TransformersLanguageModel(name, "float32", adapter=folder)) for folder in adapters]
    assert len({str(item) for item in alone}) == 3
    loads = []
    load = transformers_language.load_causal_model
    monkeypatch.setattr(transformers_language, "load_causal_model", lambda *args: loads.append(args) or load(*args))
    pool = ModelPool(language=TransformersLanguageModel(name, "float32"), device=torch.device("cpu"))
    lent = [pool.lend_language(), *(pool.adapted(folder, name) for folder in adapters)]
    for order in ([0, 1, 2], [2, 0, 1], [1, 1, 0]):
        for index in order:
            assert answers(lent[index]) == alone[index]
    assert pool.adapted(adapters[0], name) is lent[1]
    assert len(loads) == 1


def test_a_model_that_does_not_fit_says_what_to_do() -> None:
    class Large(WordEmbedder):
        def to(self, device: torch.device) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(RunError, match="Got too little memory for words; set `residency: swap`"):
        _ = ModelPool(embedder=Large(), device=torch.device("cpu")).embedder


def test_an_adapter_that_has_its_base_alone_is_merged(language_model: Path, adapters: list[str]) -> None:
    pool = ModelPool(device=torch.device("cpu"))
    lent = pool.adapted(adapters[0], str(language_model), alone=True)
    expected = answers(TransformersLanguageModel(str(language_model), adapter=adapters[0]))
    assert answers(lent) == expected
    assert not any("lora" in key for key, _ in lent.model.base.model.named_parameters())


class Moved(WordEmbedder):
    def __init__(self) -> None:
        self.places: list[str] = []

    def to(self, device: torch.device) -> None:
        self.places.append(device.type)

    def complete(self, *_: object) -> list[list[str]]:
        return []


@pytest.mark.parametrize(("policy", "places"), [("resident", ["meta"]), ("swap", ["meta", "cpu", "meta"])])
def test_models_are_moved_once_per_phase(policy: str, places: list[str]) -> None:
    first, second = Moved(), Moved()
    pool = ModelPool(language=first, embedder=second, policy=policy, device=torch.device("meta"))  # type: ignore[arg-type]
    for _ in range(2):
        assert pool.language is first
    assert pool.embedder is second
    assert pool.language is first
    assert first.places == places


def test_lightnings_device_replaces_the_default() -> None:
    model = Moved()
    pool = ModelPool(embedder=model, device=torch.device("cpu"))
    assert pool.embedder is model
    pool.place_on(torch.device("meta"))
    assert pool.embedder is model
    pool.place_on(torch.device("meta"))
    assert pool.embedder is model
    assert model.places == ["cpu", "meta"]


def test_a_model_that_the_recipe_lacks_is_named() -> None:
    with pytest.raises(UserError, match="This needs a `video_model`"):
        _ = ModelPool().video
    assert set(ModelPool().names.values()) == {""}
