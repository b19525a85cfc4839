from __future__ import annotations

import re

import numpy as np
import pytest

from rapo_lightning.verifiers.motion import REGIONS, Motion, measure_motion
from rapo_lightning.verifiers.motion_words import course_of, motion_words
from tests.verifiers.clips import FPS, moving_patch, noise, rolling, shuffled, swinging


def said(places: list[tuple[float, float]], size: tuple[int, int] = (96, 128)) -> str:
    return motion_words(measure_motion(moving_patch(places, size), FPS))


def pace(words: str, way: str) -> int:
    """The first pace that is said of a way."""
    found = re.search(rf"goes {way} at (\d+) %", words)
    assert found is not None, words
    return int(found.group(1))


def test_way_and_pace_are_said() -> None:
    words = said(rolling())
    assert 23 <= pace(words, "right") <= 27
    assert "of the width per second for 2.0 s, evenly" in words
    assert "left" not in words.split("Of the picture")[0]
    assert "turns back" not in words
    down = said([(0.4, 0.05 + 0.3 * number / FPS) for number in range(17)])
    assert 28 <= pace(down, "down") <= 32
    assert "of the height per second" in down


def test_getting_faster_and_turning_back_are_said() -> None:
    falling = said([(0.4, 0.6 * (number / 16) ** 2) for number in range(17)])
    assert "down" in falling
    assert "getting faster" in falling
    back = said(swinging())
    assert "It turns back 4 times." in back
    assert "left" in back
    assert "right" in back


def test_stops_are_said_and_are_no_turns() -> None:
    words = motion_words(measure_motion(moving_patch(rolling())[np.arange(17) // 2], FPS))
    assert "It stops and goes on 7 times." in words
    assert "turns back" not in words


def test_regions_are_said_where_they_move() -> None:
    low = said([(x, 0.68) for x, _ in rolling()])
    high = said([(x, 0.02) for x, _ in rolling()])
    assert "lower left" in low
    assert "bottom" in low
    assert "upper left" in high
    assert "top" in high


def test_regions_that_part_are_told_apart() -> None:
    rises = moving_patch([(0.3, 0.6 - 0.25 * number / FPS) for number in range(17)])
    sinks = moving_patch([(0.3, 0.05 + 0.25 * number / FPS) for number in range(17)])
    words = motion_words(measure_motion(np.concatenate([rises, sinks], axis=2), FPS))
    assert "Its parts go different ways." in words
    assert "left moves up at" in words
    assert "right moves down at" in words


def test_a_camera_that_turns_moves_the_whole_picture() -> None:
    wide = moving_patch([(0.4, 0.4)], (96, 256))[0]
    panned = np.stack([wide[:, 4 * number : 4 * number + 128] for number in range(17)])
    words = motion_words(measure_motion(panned, FPS))
    assert words.startswith("The whole picture moves. It goes left at")


@pytest.mark.parametrize("size", [(64, 85), (288, 384)])
def test_words_hardly_depend_on_the_resolution(size: tuple[int, int]) -> None:
    here, there = said(swinging()), said(swinging(), size)
    assert here.split(" at ")[0].split("It goes")[1] == there.split(" at ")[0].split("It goes")[1]
    assert "It turns back 4 times." in there


def test_words_are_few_whatever_moves() -> None:
    for frames in (noise(33), shuffled(moving_patch(swinging(33))), moving_patch(rolling(33, pace=0.15))):
        assert len(motion_words(measure_motion(frames, FPS)).split()) <= 120


def test_a_course_has_stretches_turns_and_stops() -> None:
    there, rest, back = [[0.3, 0.0]], [[0.0, 0.0]], [[-0.3, 0.0]]
    course = course_of(np.array(there * 4 + rest * 2 + there * 4 + back * 3))
    assert [len(leg.velocities) for leg in course.legs] == [8, 3]
    assert (course.turns, course.stops) == (1, 1)
    assert course_of(np.zeros((0, 2))).legs == []
    assert course_of(np.array(rest * 5)).legs == []


def test_a_whole_that_hardly_moves_is_said_to_beside_its_parts() -> None:
    slow, fast = 0.02, 0.2
    velocity, regions = np.zeros((4, 2)), np.zeros((4, REGIONS, REGIONS, 2))
    velocity[:, 0], regions[:, 1, 1, 0] = slow, fast
    moving = np.zeros((4, REGIONS, REGIONS))
    moving[:, 1, 1] = 0.1
    words = motion_words(Motion(0.25, velocity, np.full(4, 0.01), regions, moving, 1.0, None))
    assert "As a whole it hardly goes anywhere. Of the picture, the middle moves right" in words
