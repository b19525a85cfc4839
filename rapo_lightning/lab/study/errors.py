"""Where an arm's score is lost: each attribute that a video misses, with the cause as far as request, text and critique tell it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from ...data.resources import find
from ...prompting.text import words
from ..captions import CLOSINGS, OPENINGS
from ..describing import NAMES
from ..labels import Labels
from ..reading import named
from ..requests import asked, wordings
from ..steadiness import FAULTS
from .measures import Arm, Video, named_by, shown_by
from .tables import table
from .vocabulary import taught

CAUSES = ("word not known", "word dropped", "named wrong", "style left", "video model failed")
CAPTIONS = "recipes/lab/captions_train.txt"
"""Captions whose words are those of the style."""
FAULT = "fault"
"""Stands as the attribute of what a fault of the video takes from its score."""
ATTRIBUTES = (*(key for key in NAMES if not key.endswith("_2")), FAULT)


@dataclass(frozen=True)
class Miss:
    """An attribute that was asked for and is not shown, or a fault.

    Attributes:
        video: Where.
        attribute: Key of `requests.asked`, or `FAULT`.
        cause: One of `CAUSES`.
        lost: What it takes from the video's score, 0..1; the misses of a video add up to 1 minus its score.
    """

    video: Video
    attribute: str
    cause: str
    lost: float

    @property
    def kind(self) -> str:
        """The attribute, a second body's with the first's."""
        return self.attribute.removesuffix("_2")


@cache
def _style_words() -> frozenset[str]:
    path = find(CAPTIONS)
    assert path is not None
    return frozenset(words(path.read_text(encoding="utf-8")))


def has_form(text: str) -> bool:
    """Whether a text begins and ends as the captions do, and does so once."""
    ends = [sum(text.count(part) for part in parts) for parts in (OPENINGS, CLOSINGS.values())]
    return text.startswith(OPENINGS) and text.strip().endswith(tuple(CLOSINGS.values())) and ends == [1, 1]


def in_style(text: str) -> bool:
    """Whether a text has the captions' form and no word that no caption has."""
    return has_form(text) and set(words(text)) <= _style_words()


def _is_taught(video: Video, key: str, labels: Labels) -> bool:
    """Whether the refiner was taught the request's word for an attribute."""
    label = labels.get(video.prompt)
    if label:
        return taught(key, label[key], video.prompt)
    return taught(key, asked(video.prompt)[key], wordings(video.prompt)[key])


def cause_of(video: Video, key: str, labels: Labels) -> str:
    """The cause of an attribute that is not shown: the first that fits, in this order.

    `style left`, a text without the captions' form, or one that names the attribute in no word of the captions but has other
    words, or that names it right beside such words; `video model failed`, it is named right; `word dropped`, no value is named;
    and where another value is named, `word not known` or `named wrong`. A direction that is not named has the cause of the motion where
    that is not named right, since most motions have none.
    """
    if not has_form(video.text):
        return "style left"
    foreign, right = not in_style(video.text), named_by(video, labels)
    if right[key]:
        return "style left" if foreign else "video model failed"
    if not named(video.text).get(key):
        if key == "direction" and not right.get("motion", True):
            return cause_of(video, "motion", labels)
        return "style left" if foreign else "word dropped"
    return "named wrong" if _is_taught(video, key, labels) else "word not known"


def _cause_of_faults(video: Video, labels: Labels) -> str:
    """The cause of what is wrong with a video itself: its motion's, where that alone makes it a fault, and else the model's."""
    found = {name for name, sentence in FAULTS.items() if sentence in video.critique}
    if not in_style(video.text):
        return "style left"
    if found <= {"extra", "still"} and not named_by(video, labels).get("motion", True):
        return cause_of(video, "motion", labels)
    return "video model failed"


def misses(video: Video, labels: Labels) -> list[Miss]:
    """All that a scored video misses; nothing of one without a score.

    The score is the share of attributes that are shown, halved by a fault: each missing attribute takes an equal share, and the
    fault takes the rest, which stands with the style where that was left, and with the motion where the fault is a second body or that
    nothing moves, and the text says so.

    Args:
        video: The video.
        labels: What hand-written requests ask for.
    """
    shown = shown_by(video, labels)
    found = [
        Miss(video, key, cause_of(video, key, labels), 1 / len(shown)) for key, right in shown.items() if not right
    ]
    broken = 1 - len(found) / len(shown) - video.score if shown else 0.0
    # Scores are written with six digits.
    if broken > 1e-5:
        found.append(Miss(video, FAULT, _cause_of_faults(video, labels), broken))
    return found


def all_misses(arm: Arm, prompts: Iterable[str], labels: Labels) -> list[Miss]:
    """All that the videos of some prompts miss."""
    return [miss for prompt in prompts for video in arm.videos[prompt] for miss in misses(video, labels)]


@dataclass(frozen=True)
class Loss:
    """What is missed of an attribute for one cause.

    Attributes:
        attribute: One of `ATTRIBUTES`.
        cause: One of `CAUSES`.
        count: How many videos miss it.
        lost: What that takes from the mean score.
    """

    attribute: str
    cause: str
    count: int
    lost: float


@dataclass(frozen=True)
class Errors:
    """The error table of some videos.

    Attributes:
        videos: How many have a score.
        asked: How many of them ask for each attribute.
        losses: One for each attribute and cause that occurs.
    """

    videos: int
    asked: Counter[str]
    losses: Sequence[Loss]

    @property
    def lost(self) -> float:
        """1 minus the mean score."""
        return sum(loss.lost for loss in self.losses)


def count_errors(arm: Arm, prompts: Sequence[str], labels: Labels) -> Errors:
    """Counts what an arm's videos of some prompts miss.

    Args:
        arm: The arm.
        prompts: Ids of the prompts.
        labels: What hand-written requests ask for.
    """
    shown = [shown_by(video, labels) for prompt in prompts for video in arm.videos[prompt]]
    scored = [item for item in shown if item]
    wanted = Counter(key.removesuffix("_2") for item in scored for key in item)
    wanted[FAULT] = len(scored)
    counts, lost = Counter[tuple[str, str]](), defaultdict[tuple[str, str], float](float)
    for miss in all_misses(arm, prompts, labels):
        counts[miss.kind, miss.cause] += 1
        lost[miss.kind, miss.cause] += miss.lost / len(scored)
    losses = [Loss(*key, counts[key], lost[key]) for key in ((a, c) for a in ATTRIBUTES for c in CAUSES) if counts[key]]
    return Errors(len(scored), wanted, losses)


def error_table(errors: Errors) -> str:
    """A markdown table: for each attribute how many videos miss it, for each cause, and what that costs."""
    head = ["attribute", "asked for", "missed", *CAUSES, "lost score", "of it"]
    return table(head, list(_rows(errors)))


def _rows(errors: Errors) -> Iterator[list[str]]:
    whole, together = errors.lost or 1.0, ATTRIBUTES[:-1]
    for names in (*((name,) for name in ATTRIBUTES), together):
        own = [loss for loss in errors.losses if loss.attribute in names]
        count, wanted = sum(loss.count for loss in own), sum(errors.asked[name] for name in names)
        by = [sum(loss.count for loss in own if loss.cause == cause) for cause in CAUSES]
        lost = sum(loss.lost for loss in own)
        name = "all attributes" if names == together else names[0]
        yield [
            name,
            str(wanted),
            _of(count, wanted),
            *(_of(part, count) for part in by),
            f"{lost:.4f}",
            f"{lost / whole:.0%}",
        ]
    costs = [sum(loss.lost for loss in errors.losses if loss.cause == cause) for cause in CAUSES]
    yield ["lost score", "", "", *(f"{cost:.4f} ({cost / whole:.0%})" for cost in costs), f"{errors.lost:.4f}", ""]


def _of(count: int, whole: int) -> str:
    return f"{count} ({count / whole:.0%})" if whole else str(count)
