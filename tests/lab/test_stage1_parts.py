from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from rapo_lightning.checkpoints import entries, verify
from rapo_lightning.errors import UserError
from rapo_lightning.lab import lexicon, user_prompts
from rapo_lightning.lab.degrade import LabDegrader, expand, thesaurus
from rapo_lightning.lab.extract import extract_row
from rapo_lightning.lab.reading import named, read_caption, survival, translated
from rapo_lightning.lab.user_prompts import lab_prompts
from rapo_lightning.prompting.text import stop_words
from rapo_lightning.recipe.files import load_recipe, recipe_path
from rapo_lightning.recipe.variants import variant
from relation_graph import load_graph
from tests.helpers import ROOT

CAPTIONS = (ROOT / "recipes/lab/captions_train.txt").read_text().splitlines()


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_captions_are_read_back_exactly(split: str) -> None:
    for prompt in lab_prompts(400, split, seed=5):
        assert read_caption(prompt.reference) == prompt.scene
        assert named(prompt.reference) == {key: {value} for key, value in prompt.scene.attributes.items()}
        assert all(survival(prompt.prompt, prompt.reference).values())
        assert all(survival(prompt.prompt, prompt.prompt).values())
    assert read_caption("a cat on a sofa") is None


def test_survival_sees_what_is_lost_changed_and_carried() -> None:
    request = "a lemon box drifting skyward in a cave"
    right = "A simple animation shows a small yellow square rising vertically at a constant speed, in a dim brown cellar. X."
    wrong = right.replace("yellow", "orange").replace("rising", "sinking")
    assert translated(request, right) == {"motion": True, "shape": True, "colour": True, "background": True}
    assert translated(request, wrong) == {"motion": False, "shape": True, "colour": False, "background": True}
    assert survival(request, wrong) == translated(request, wrong)
    carried = f"{wrong} Also: lemon box drifting skyward."
    assert all(survival(request, carried).values())
    assert translated(request, carried) == translated(request, wrong)


def test_the_reader_of_captions_knows_no_synonym_of_the_users() -> None:
    assert named("a lemon crate going up in a cave") == {}
    caption = "A simple animation shows a small crimson box rising slowly and steadily from the ground, in a park. X."
    assert named(caption) == {"motion": {"rise"}}
    assert survival("a scarlet crate", caption.replace("crimson box", "scarlet crate")) == {
        "shape": True,
        "colour": True,
    }
    assert translated("a scarlet crate", caption.replace("crimson box", "scarlet crate")) == {
        "shape": False,
        "colour": False,
    }


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", re.sub(r"\{\w+\}", "", text.lower())))


@pytest.mark.parametrize("split", ["heldout", "validation"])
def test_the_degrader_has_no_word_that_only_users_of_another_split_write(split: str) -> None:
    train, others = set(), set()
    tables = ["BACKGROUND_WORDS", "COLOUR_WORDS", "DIRECTION_WORDS", "MOTION_WORDS", "SHAPE_WORDS", "SIZE_WORDS"]
    entries = [entry for name in tables for entry in getattr(lexicon, name).values()]
    part = lexicon.SPLITS.index(split)
    for entry in (*entries, lexicon.COLLIDE_WORDS, lexicon.BESIDE_WORDS):
        train |= _words(" ".join(entry[0]))
        others |= _words(" ".join(entry[part]))
    train |= _words(" ".join(user_prompts.FRAMES[0]))
    others |= _words(" ".join(user_prompts.FRAMES[split == "heldout"]))
    ours = _words(yaml.safe_dump(thesaurus(), width=10**9)) | set(
        (ROOT / "ckpt/lab/rewriter/vocabulary.txt").read_text().split()
    )
    told = {"slide"}  # as a noun in held-out prompts; as a verb it is plain training vocabulary
    captions = _words(" ".join(CAPTIONS))
    assert (others - train - stop_words() - captions - told) & ours == set()


def test_degraded_requests_name_the_scene_or_keep_the_unknown() -> None:
    pairs = LabDegrader().degrade(CAPTIONS[:400], [3] * 400, None)
    assert pairs == LabDegrader().degrade(CAPTIONS[:400], [3] * 400, None)
    assert len({request for request, _ in pairs}) > 380
    changed = 0
    unknown = thesaurus()["unknown"]
    for caption, (request, answer) in zip(CAPTIONS, pairs, strict=False):
        assert not re.search(r"[{}()|]", request + answer)
        if answer != caption:
            changed += 1
            foreign = [w for w in (*unknown["nouns"], *unknown["adjectives"], *unknown["places"]) if w in answer]
            assert all(
                word in request.lower() for word in foreign if f" {word} " in f" {answer} " and word not in caption
            )
    assert 0.2 < changed / 400 < 0.5
    with pytest.raises(UserError, match="Got 'a cat on a sofa'"):
        LabDegrader().degrade(["a cat on a sofa"], [0], None)


def test_alternatives_expand_from_the_inside() -> None:
    rng = np.random.default_rng(0)
    assert {expand("a (b|c (d|e)|)", rng) for _ in range(60)} == {"a b", "a c d", "a c e", "a"}


def test_the_lab_graph_is_made_of_the_training_captions_alone() -> None:
    scenes = [read_caption(caption) for caption in CAPTIONS]
    assert all(scene is not None and scene.split == "train" for scene in scenes)
    graph = load_graph(ROOT / "relation_graph/graph_data/lab")
    assert graph.captions == len(CAPTIONS) == 10_000
    rows = [extract_row(caption) for caption in CAPTIONS]
    assert all(rows)
    assert set(graph.places.texts()) == {place for row in rows if row for place in row.places}
    assert set(graph.nodes["verb_object"].texts()) == {verb for row in rows if row for verb in row.verb_objects}
    first = rows[0]
    assert first is not None
    target = graph.nodes["verb_object"].texts().index(first.verb_objects[0])
    targets, counts = graph.edges["verb_object"].of(graph.find_place(first.places[0]))
    expected = sum(row.places == first.places and row.verb_objects == first.verb_objects for row in rows if row)
    assert int(counts[targets.tolist().index(target)]) == expected


def test_shipped_parts_are_small_whole_and_fit_the_recipe() -> None:
    def megabytes(folder: str) -> float:
        return sum(path.stat().st_size for path in (ROOT / folder).rglob("*.safetensors")) / 1e6

    assert 0 < megabytes("ckpt/lab/rewriter") <= 4
    assert 0 < megabytes("ckpt/lab/discriminator") <= 1
    assert 0 < megabytes("ckpt/lab/video_model") < 18
    # The lab without its judge, and with it.
    assert megabytes("ckpt") - megabytes("ckpt/lab/judge") <= 28
    assert megabytes("ckpt") <= 40
    for name in ("lab/rewriter", "lab/corrector", "lab/discriminator"):
        assert verify(entries()[name]) == []
    recipe = load_recipe(recipe_path("lab"))
    assert recipe.stage1.rewriter == "ckpt/lab/rewriter"
    assert recipe.stage2.rewriter == "ckpt/lab/corrector"
    assert variant(recipe, "with-all").stage1.discriminator == "ckpt/lab/discriminator"
    config = yaml.safe_load(Path(ROOT / "ckpt/lab/rewriter/refiner.yaml").read_text())
    assert config["system"] == load_recipe(recipe_path("lab-rewriter")).stage3.system
    config = yaml.safe_load(Path(ROOT / "ckpt/lab/corrector/refiner.yaml").read_text())
    assert config["system"] == load_recipe(recipe_path("lab-corrector")).stage3.system
