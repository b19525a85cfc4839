from __future__ import annotations

import numpy as np
import pytest

from rapo_lightning.lab.degenerate import DEGENERATE, NEEDS_MOTION, degenerate
from rapo_lightning.lab.oracle import FAULT_FACTOR, judge
from rapo_lightning.lab.scene import Body, Scene
from rapo_lightning.lab.steadiness import FAULTS
from rapo_lightning.lab.user_prompts import user_prompt

EXPECTED = {
    "black_every_second": "scene",
    "noise_tail": "scene",
    "shape_flicker": "shape",
    "same_colour_clone": "extra",
    "frozen": "still",
    "colour_flicker": "colour",
    "size_flicker": "size",
    "shuffled": "jumps",
    "swapped": "jumps",
    "stuttering": "stutters",
    "held_for_three": "stops",
    "stopping": "stops",
    "starting_late": "stops",
    "dark_every_second": "light",
    "half_dark_every_second": "light",
    "flickering_bodies": "light",
    "tinted_every_second": "light",
    "vanishing": "gone",
    "teleporting": "jumps",
    "inverted": "scene",
    "partly_inverted": "scene",
    "foreign_square": "extra",
}


def test_every_way_to_break_a_video_is_checked() -> None:
    assert set(EXPECTED) == set(DEGENERATE)
    assert set(EXPECTED.values()) == set(FAULTS)


@pytest.mark.parametrize("name", sorted(DEGENERATE))
def test_no_broken_video_earns_more_than_half(rendered, name: str) -> None:
    scenes, rng = rendered[0][:60], np.random.default_rng(1)
    verdicts = []
    for scene in scenes:
        video = degenerate(name, scene, rng)
        if video is not None:
            verdicts.append(judge(user_prompt(scene, rng, "heldout"), video))
    assert len(verdicts) > 40
    assert all(EXPECTED[name] in verdict.faults for verdict in verdicts)
    assert all(FAULTS[EXPECTED[name]] in verdict.critique for verdict in verdicts)
    assert max(verdict.score for verdict in verdicts if verdict.score is not None) <= FAULT_FACTOR


@pytest.mark.parametrize("name", sorted(NEEDS_MOTION))
def test_what_does_not_move_cannot_be_frozen(name: str) -> None:
    scene = Scene((Body("ball", "red", "small"),), "snow", "rest")
    assert degenerate(name, scene, np.random.default_rng(0)) is None
