from __future__ import annotations

import pytest

from rapo_lightning.prompting.text import stem, stop_words, telling_stems


@pytest.mark.parametrize(
    "forms",
    [
        "sit sits sitting",
        "dance dances danced dancing",
        "fall falls falling",
        "box boxes",
        "city cities",
        "carry carries carried carrying",
        "glass glasses",
        "go goes going",
        "see sees seeing",
        "dog dogs dog's",
    ],
)
def test_inflections_have_one_stem(forms: str) -> None:
    assert len({stem(form) for form in forms.split()}) == 1


@pytest.mark.parametrize("words", ["ring red", "sing king", "seed see", "bed bee", "bus but", "play plan", "cat car"])
def test_other_words_have_others(words: str) -> None:
    one, other = words.split()
    assert stem(one) != stem(other)


def test_words_of_asking_tell_something_and_function_words_do_not() -> None:
    assert telling_stems("Please, could you film the two dogs in love?") == {"two", "dog", "lov"}
    assert telling_stems("I'd like to see a video clip of a movie star") == {"movi", "star"}
    assert telling_stems("imagine a film") == {"film"}
    assert {"film", "love", "please", "the"} <= stop_words()
    assert "#" not in stop_words()
