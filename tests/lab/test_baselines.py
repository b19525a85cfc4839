from __future__ import annotations

import re

import pytest

from rapo_lightning.data.prompts import Prompt
from rapo_lightning.lab import lexicon
from rapo_lightning.lab.baselines import Dictionary, dictionary_caption, read_request
from rapo_lightning.lab.reading import read_caption
from rapo_lightning.lab.user_prompts import lab_prompts
from rapo_lightning.models import ModelPool


def test_the_dictionary_knows_all_training_words() -> None:
    for prompt in lab_prompts(500, "heldout", seed=11, wording="train"):
        made = read_caption(dictionary_caption(prompt.prompt))
        assert made is not None, prompt.prompt
        assert (made.motion, len(made.bodies)) == (prompt.scene.motion, len(prompt.scene.bodies)), prompt.prompt
        for body, truth in zip(made.bodies, prompt.scene.bodies, strict=True):
            assert (body.shape, body.colour) == (truth.shape, truth.colour), prompt.prompt
        found, truth_of = read_request(prompt.prompt), prompt.scene.attributes
        for key in ("background", "direction"):
            assert found[key] in ("", truth_of.get(key)), prompt.prompt


@pytest.mark.parametrize(
    "words",
    [lexicon.COLOUR_WORDS, lexicon.SHAPE_WORDS, lexicon.SIZE_WORDS, lexicon.BACKGROUND_WORDS, lexicon.MOTION_WORDS],
)
def test_it_knows_no_word_of_other_splits(words: lexicon.Wordings) -> None:
    trained = [phrase for known, *_ in words.values() for phrase in known]
    for _, *others in words.values():
        for phrase in (phrase for other in others for phrase in other):
            said = phrase.replace("{d}", "").strip()
            # "plus shape" has the training word "plus" in it, which anybody may read.
            if any(re.search(rf"\b{re.escape(word.split(' {d}')[0])}\b", said) for word in trained):
                continue
            found = read_request(f"this {said} thing")
            assert not any(found[key] for key in ("motion", "background", "direction")), phrase
            assert not any(value for body in found["bodies"] for value in body.values()), phrase  # type: ignore[attr-defined]


def test_captions_are_read_back_and_the_rest_is_drawn() -> None:
    for prompt in lab_prompts(100, "train", seed=12):
        assert read_caption(dictionary_caption(prompt.reference)) == prompt.scene
    drawn = {dictionary_caption(f"a cat {number}") for number in range(20)}
    assert len(drawn) > 15
    assert all(read_caption(text) is not None for text in drawn)


def test_a_text_depends_on_its_prompt_alone() -> None:
    prompts = [Prompt("a ruby ball"), Prompt("a scarlet orb")]
    made = Dictionary().texts(prompts, ModelPool())
    assert made == [*Dictionary().texts(prompts[:1], ModelPool()), *Dictionary().texts(prompts[1:], ModelPool())]
    assert " red ball " in made[0]
