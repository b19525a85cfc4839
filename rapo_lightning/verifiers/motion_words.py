"""A video's motion in words that a language model can use: whither, how fast, how it changes, and where in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .motion import REGIONS, Motion

Velocities = NDArray[np.float64]
STILL = "Nothing moves."
_SLOWEST = 0.03
"""Share of the picture per second below which something stands still; all limits of this file are ours."""
_DIRECTIONS = (
    "right", "right and down", "down", "left and down", "left", "left and up", "up", "right and up",
)  # fmt: skip
"""By steps of an eighth of a turn, clockwise."""
_PLACES = (
    ("upper left", "top", "upper right"),
    ("left", "middle", "right"),
    ("lower left", "bottom", "lower right"),
)
_MOST_LEGS, _MOST_REGIONS = 4, 3
"""A small model is lost in more."""
_BACK = -0.5
"""Cosine of two directions below which one turns back on the other (a third of a turn)."""
_FASTER = 1.35
"""Ratio of speeds, end to beginning, from which something gets faster; its inverse is slower."""
_LEAST_SHARE = 0.15
"""Share of all motion that a region must have to be named."""
_WHOLE, _EVERYWHERE = 0.5, 0.2
"""Share of the picture, and of each region, that moves where the whole picture does."""
_AGREE = 0.5
"""Length of the mean velocity as a share of the mean speed from which parts go one way."""


@dataclass(frozen=True)
class Leg:
    """A stretch of time in one direction.

    Attributes:
        direction: Index of `_DIRECTIONS`.
        velocities: Shares of width and height per second, `(pairs, 2)`.
    """

    direction: int
    velocities: Velocities

    @property
    def mean(self) -> Velocities:
        """Its mean velocity."""
        return np.asarray(self.velocities.mean(axis=0))

    @property
    def axis(self) -> int:
        """0 where it goes farther along the width, 1 along the height, as shares of these."""
        return int(np.abs(self.mean).argmax())

    @property
    def speed(self) -> float:
        """Share of the width or the height per second."""
        return float(np.abs(self.mean)[self.axis])

    @property
    def trend(self) -> str:
        """Whether it gets faster or slower."""
        along = np.abs(self.velocities[:, self.axis])
        third = len(along) // 3
        if not third:
            return ""
        ratio = along[-third:].mean() / max(float(along[:third].mean()), 1e-6)
        return ", getting faster" if ratio > _FASTER else ", getting slower" if ratio < 1 / _FASTER else ", evenly"


@dataclass(frozen=True)
class Course:
    """How a motion goes on in time.

    Attributes:
        legs: Its stretches.
        stops: How often it stands still and then goes on the same way.
    """

    legs: list[Leg]
    stops: int

    @property
    def turns(self) -> int:
        """How often it turns back on itself."""
        pairs = zip(self.legs[:-1], self.legs[1:], strict=True)
        return sum(_cosine(first, second) < _BACK for first, second in pairs)


def _cosine(first: Leg, second: Leg) -> float:
    return float(first.mean @ second.mean / (np.linalg.norm(first.mean) * np.linalg.norm(second.mean)))


def course_of(velocities: Velocities) -> Course:
    """Reads a motion's course; one measurement a little aside from the way before it is no stretch of its own.

    Args:
        velocities: Shares of width and height per second, `(pairs, 2)`.
    """
    moves = np.abs(velocities).max(axis=1, initial=0) > _SLOWEST
    ways = np.round(np.arctan2(velocities[:, 1], velocities[:, 0]) / (np.pi / 4)).astype(int) % 8
    ways = np.where(moves, ways, -1)
    for place in range(1, len(ways) - 1):
        before, here, after = ways[place - 1 : place + 2]
        if min(before, here) >= 0 and here != after and (here - before) % 8 in (1, 7):
            ways[place] = before
    ends = [place for place in range(1, len(ways)) if ways[place] != ways[place - 1]]
    legs: list[Leg] = []
    stops, stood = 0, False
    for part in np.split(np.arange(len(ways)), ends):
        if not len(part) or ways[part[0]] < 0:
            stood = bool(legs)
            continue
        leg = Leg(int(ways[part[0]]), velocities[part])
        if stood and (leg.direction - legs[-1].direction) % 8 in (0, 1, 7):
            stops += min(leg.speed, legs[-1].speed) > 2 * _SLOWEST
            legs[-1] = Leg(legs[-1].direction, np.concatenate([legs[-1].velocities, leg.velocities]))
        else:
            legs.append(leg)
        stood = False
    return Course(legs, stops)


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _pace(leg: Leg) -> str:
    return f"{_DIRECTIONS[leg.direction]} at {leg.speed:.0%}".replace("%", " %")


def _course_words(course: Course, seconds: float) -> str:
    """The stretches in order, the first with its unit; how often it turns back, and stops."""
    told = []
    for number, leg in enumerate(course.legs[:_MOST_LEGS]):
        unit = "" if number else f" of the {('width', 'height')[leg.axis]} per second"
        told.append(f"{_pace(leg)}{unit} for {len(leg.velocities) * seconds:.1f} s{leg.trend}")
    changes = len(course.legs) - 1
    more = f"; it changes its way {changes} times in all" if changes >= _MOST_LEGS else ""
    back = f" It turns back {_times(course.turns)}." if course.turns else ""
    stops = f" It stops and goes on {_times(course.stops)}." if course.stops else ""
    return f"{'; then '.join(told)}{more}.{back}{stops}"


def _agreement(motion: Motion) -> float:
    """Length of the picture's mean velocity as a share of its regions' mean speed; 1 where all goes one way."""
    parts = motion.region_velocity * motion.region_moving[..., None]
    together = np.linalg.norm(parts.sum(axis=(1, 2)), axis=-1).sum()
    apart = np.linalg.norm(parts, axis=-1).sum()
    return float(together / apart) if apart else 1.0


def _region_words(motion: Motion) -> str:
    """What the regions with most motion do, in the order in which they move."""
    mass = motion.region_moving * np.abs(motion.region_velocity).max(axis=-1)
    totals = mass.sum(axis=0)
    when = (mass * np.arange(len(mass))[:, None, None]).sum(axis=0) / np.maximum(totals, 1e-9)
    busiest = sorted(np.ndindex(REGIONS, REGIONS), key=lambda place: -totals[place])[:_MOST_REGIONS]
    chosen = [place for place in busiest if totals[place] >= _LEAST_SHARE * totals.sum()]
    told = []
    for row, column in sorted(chosen, key=lambda place: float(when[place])):
        course = course_of(motion.region_velocity[:, row, column])
        if course.legs:
            longest = max(course.legs, key=lambda leg: len(leg.velocities) * leg.speed)
            back = f", turns back {_times(course.turns)}" if course.turns else ""
            told.append(f"the {_PLACES[row][column]} moves {_pace(longest)}{back}")
    return f"Of the picture, {'; '.join(told)}." if told else ""


def motion_words(motion: Motion) -> str:
    """Says how a video moves, in three sentences or four: a hundred words at most, mostly half of it.

    Args:
        motion: The motion.
    """
    course, regions = course_of(motion.velocity), _region_words(motion)
    if not course.legs and not regions:
        return STILL
    moves = motion.moving > 0
    share, everywhere = motion.moving[moves].mean(), motion.region_moving[moves].mean(axis=0).min()
    if _agreement(motion) < _AGREE:
        told = "Its parts go different ways."
    elif course.legs:
        told = f"It goes {_course_words(course, motion.seconds)}"
    else:
        told = "As a whole it hardly goes anywhere."
    if share >= _WHOLE and everywhere >= _EVERYWHERE:
        return f"The whole picture moves. {told} {regions}".strip()
    covered = "less than 1 %" if share < 0.01 else f"{share:.0%}".replace("%", " %")
    return f"Motion covers {covered} of the picture. {told} {regions}".strip()
