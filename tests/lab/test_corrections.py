from __future__ import annotations

import csv
import re
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np

from rapo_lightning.lab.corrections import MOST, Request, correction_pair, draw_attempts, draw_request
from rapo_lightning.lab.reading import read_caption
from rapo_lightning.lab.requests import asked
from rapo_lightning.lab.scene import Body, Scene, sample_scene
from rapo_lightning.lab.scripts import corrections
from rapo_lightning.prompting.revision import SEEN, TRIED, Attempt, kept_attempts, revision_turn

PAIRS = [correction_pair(seed) for seed in range(300)]


def test_the_worst_attempts_are_dropped_first_and_the_best_is_read_last() -> None:
    attempts = [Attempt("a", "", 0.2), Attempt("b", "", 0.9), Attempt("c", "", 0.2), Attempt("d", "", 0.5)]
    assert [item.prompt for item in kept_attempts(attempts, 3)] == ["c", "d", "b"]
    assert kept_attempts(attempts, 0) == []
    assert [item.prompt for item in kept_attempts(attempts, 9)] == ["a", "c", "d", "b"]


def test_a_turn_without_attempts_is_the_request_and_lines_stay_apart() -> None:
    assert revision_turn(" a ball\nfalls ", []) == "a ball falls"
    assert revision_turn("a ball", [Attempt("x\ny", "seen\nit")]) == f"a ball\n{TRIED}x y\n{SEEN}seen it"


def test_pairs_end_in_training_captions_and_attempts_differ_from_them() -> None:
    told = 0
    for turn, answer in PAIRS:
        tried = [line.removeprefix(TRIED) for line in turn.split("\n") if line.startswith(TRIED)]
        assert len(tried) <= MOST
        scene = read_caption(answer)
        if scene is None:  # the request has a word that no caption has, and the answer keeps it
            continue
        assert scene.split == "train"
        told += sum(read_caption(text) != scene for text in tried)
    assert told > 200


def _colours(attempts: list[Attempt]) -> list[str]:
    return [read_caption(item.prompt).bodies[0].colour for item in attempts]  # type: ignore[union-attr]


def test_what_is_unclear_is_tried_again_at_once_or_not_at_all_until_it_is_found() -> None:
    scene = Scene((Body("ball", "red", "small"),), "snow", "rise")
    request = Request("a zub ball", {"shape": "ball", "colour": "red"}, strange={"colour": "zub"})
    for seed in range(60):
        attempts = draw_attempts(scene, request, np.random.default_rng(seed), seed % 5)
        wrong = [match[1] for item in attempts if (match := re.search(r"shows a small (\w+) ball", item.critique))]
        wrong = [colour for colour, _ in groupby(wrong) if colour != "red"]
        assert len(set(wrong)) == len(wrong)


def test_a_word_that_means_another_value_is_tried_as_it_reads_first() -> None:
    scene = Scene((Body("ball", "red", "small"),), "snow", "rise")
    request = Request("a blue ball", {"colour": "blue"}, misread={"colour": "blue"})
    for seed in range(60):
        attempts = draw_attempts(scene, request, np.random.default_rng(seed), 3)
        captions = [item for item in attempts if item.prompt != request.text]
        assert len(captions) > 1
        assert len(attempts) == 3
        assert _colours(captions)[0] == "blue"
        assert "blue ball" in captions[0].critique


def test_a_caption_may_keep_an_invented_word_and_what_it_showed_is_said() -> None:
    scene = Scene((Body("ball", "red", "small"),), "snow", "rise")
    request = Request("a zub ball", {"colour": "red"}, strange={"colour": "zub"})
    drawn = [draw_attempts(scene, request, np.random.default_rng(seed), 2) for seed in range(60)]
    kept = [item for attempts in drawn for item in attempts if "small zub ball" in item.prompt]
    assert 10 < len(kept) < 60
    assert all("zub" not in item.critique and "red" not in item.critique for item in kept)


def test_the_first_attempt_may_be_the_request_itself() -> None:
    scene = Scene((Body("ball", "red", "small"),), "snow", "rise")
    request = Request("a red ball", {"colour": "red"})
    drawn = [
        [item.prompt for item in draw_attempts(scene, request, np.random.default_rng(seed), 2)] for seed in range(90)
    ]
    assert 2 < sum(prompts[0] == request.text for prompts in drawn) < 25
    assert not any(request.text in prompts[1:] for prompts in drawn)


def test_only_requests_with_attempts_mislead() -> None:
    misled: Counter[str] = Counter()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng, "train")
        request = draw_request(scene, rng, tried=seed % 2 == 0)
        assert not request.misread or seed % 2 == 0
        misled.update(request.misread.keys())
        for key, value in request.misread.items():
            assert asked(request.text)[key] == value != scene.attributes[key]
            assert key in request.unclear
    assert misled.total() > 60
    assert misled["motion"] > misled["background"] > 0


def test_the_script_writes_pairs_for_finetune(tmp_path: Path) -> None:
    corrections.main(["--out", str(tmp_path / "pairs.csv"), "--count", "8"])
    rows = list(csv.DictReader((tmp_path / "pairs.csv").open(newline="")))
    assert [(row["prompt"], row["completion"]) for row in rows] == PAIRS[:8]
