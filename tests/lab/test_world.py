from __future__ import annotations

import re

import numpy as np
import pytest

from rapo_lightning.data.prompts import read_prompts
from rapo_lightning.lab import lexicon, user_prompts, world
from rapo_lightning.lab.captions import caption
from rapo_lightning.lab.motion import trajectory
from rapo_lightning.lab.render import rasterize
from rapo_lightning.lab.requests import asked
from rapo_lightning.lab.scene import Body, Scene, sample_scene
from rapo_lightning.lab.scripts import files
from rapo_lightning.lab.user_prompts import lab_prompts
from tests.helpers import ROOT


def test_world_has_the_promised_size() -> None:
    assert len(world.SHAPES) >= 4
    assert len(world.COLOURS) >= 8
    assert len(world.SIZES) >= 3
    assert len(world.BACKGROUNDS) >= 6
    assert len(world.MOTIONS) >= 10
    assert set(world.PHYS_LAWS) == set(world.MOTIONS)


def test_scenes_of_the_splits_never_meet() -> None:
    rng = np.random.default_rng(0)
    train = {sample_scene(rng, "train") for _ in range(3000)}
    heldout = {sample_scene(rng, "heldout") for _ in range(500)}
    assert not train & heldout
    assert {scene.split for scene in train} == {"train"}


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="Got 'test'"):
        sample_scene(np.random.default_rng(0), "test")


def test_scene_survives_json() -> None:
    scene = sample_scene(np.random.default_rng(1))
    assert Scene.from_json(scene.to_json()) == scene


def test_phrasings_are_many_and_disjoint() -> None:
    verbs = {half: {p for words in lexicon.MOTION_WORDS.values() for p in words[half]} for half in (0, 1)}
    assert len(verbs[0]) + len(lexicon.COLLIDE_WORDS[0]) + len(lexicon.BESIDE_WORDS[0]) >= 40
    assert not verbs[0] & verbs[1]
    assert not set(user_prompts.FRAMES[0]) & set(user_prompts.FRAMES[1])


def test_synonyms_do_not_occur_in_captions() -> None:
    rng = np.random.default_rng(0)
    captions = " ".join(caption(sample_scene(rng), rng) for _ in range(3000)).lower()
    plain = {*world.COLOURS, *world.SHAPES}
    for words in (
        lexicon.COLOUR_WORDS,
        lexicon.SHAPE_WORDS,
        lexicon.SIZE_WORDS,
        lexicon.MOTION_WORDS,
        lexicon.BACKGROUND_WORDS,
    ):
        for splits in words.values():
            for phrase in (phrase for phrases in splits for phrase in phrases):
                text = phrase.replace("{d}", "").strip()
                assert text in plain or not re.search(rf"\b{re.escape(text)}\b", captions), text


@pytest.mark.parametrize("wording", lexicon.SPLITS)
def test_user_prompts_say_what_the_scene_shows(wording: str) -> None:
    for prompt in lab_prompts(400, "train", seed=4, wording=wording):
        wanted, truth = asked(prompt.prompt), prompt.scene.attributes
        assert {"motion", "shape", "colour"} <= set(wanted), prompt.prompt
        assert all(truth[key] == value for key, value in wanted.items()), prompt.prompt


def test_prompts_typed_by_hand_are_understood() -> None:
    assert asked("A Crimson ball falling down!") == {"shape": "ball", "colour": "red", "motion": "fall"}
    assert asked("an elephant in the room") == {}
    two = asked("the blue box right of a red ball")
    assert (two["shape"], two["shape_2"], two["motion"]) == ("ball", "square", "beside")


def test_prompts_of_a_seed_do_not_depend_on_count() -> None:
    assert lab_prompts(5, "train", 3) == lab_prompts(20, "train", 3)[:5]


def test_held_out_scenes_in_trained_wording_use_no_held_out_word() -> None:
    prompts = lab_prompts(200, "heldout", 3, wording="train")
    assert {prompt.scene.split for prompt in prompts} == {"heldout"}
    tables = (lexicon.COLOUR_WORDS, lexicon.SHAPE_WORDS, lexicon.SIZE_WORDS, lexicon.BACKGROUND_WORDS)
    heldout = [word for table in tables for _, *others in table.values() for words in others for word in words]
    heldout += [word.split(" {d}")[0] for _, words, _ in lexicon.MOTION_WORDS.values() for word in words]
    texts = " ".join(prompt.prompt for prompt in prompts)
    assert not [word for word in heldout if re.search(rf"\b{re.escape(word)}\b", texts)]


def test_held_out_file_has_both_groups_and_nothing_of_the_training_files() -> None:
    folder = ROOT / "recipes/lab"
    heldout = read_prompts(str(folder / "prompts_heldout.csv"))
    assert [prompt.group for prompt in heldout] == ["new wording"] * 360 + ["trained wording"] * 360
    known = {
        prompt.text for name in ("prompts_train", "examples") for prompt in read_prompts(str(folder / f"{name}.csv"))
    }
    assert not known & {prompt.text for prompt in heldout}


def test_bodies_stay_in_frame_and_laws_hold() -> None:
    rng = np.random.default_rng(0)
    ball = (Body("ball", "red", "small"),)
    fall = trajectory(Scene(ball, "snow", "fall"), rng)[0, :, 1]
    assert fall.max() == pytest.approx(world.GROUND_Y - world.SIZES["small"], abs=2.5)
    assert np.diff(fall)[:4].min() > 0
    assert np.diff(fall, 2)[:3] == pytest.approx(world.GRAVITY / 64, rel=0.15)
    there = trajectory(Scene(ball, "snow", "roll", "left_to_right"), np.random.default_rng(5))
    back = trajectory(Scene(ball, "snow", "roll", "right_to_left"), np.random.default_rng(5))
    assert there[..., 0] == pytest.approx(64 - back[..., 0])
    for _ in range(300):
        track = trajectory(sample_scene(rng), rng)
        assert track.min() > 0
        assert track.max() < 64


def test_rendering_is_antialiased_and_has_the_right_area() -> None:
    scene = Scene((Body("ball", "red", "large"),), "night", "rest")
    frame = rasterize([scene], [np.full((1, 1, 2), 32.0)])[0, 0]
    red = (frame[0] - 26 / 255) / (222 / 255 - 26 / 255)
    inside = frame[0, 20:44, 20:44]
    assert float(red[:46].clamp(0, 1).sum()) == pytest.approx(np.pi * world.SIZES["large"] ** 2, rel=0.02)
    assert len(inside.unique()) > 5


def test_shipped_files_are_what_the_lab_writes(tmp_path) -> None:
    files.write_files(tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (ROOT / "recipes/lab" / path.name).read_bytes(), path.name
