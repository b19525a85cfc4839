"""Which of the retrieved modifiers are merged into a prompt, and why the others are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from relation_graph import Found

from ..data.resources import find
from ..errors import UserError
from ..prompting.templates import template
from ..prompting.text import stem, stop_words, telling_stems, words

Outcome = Literal[
    "chosen",
    "below threshold",
    "not the best place",
    "duplicate",
    "contradicts the request",
    "contradicts another modifier",
]


@dataclass(frozen=True)
class Group:
    """Words that exclude each other.

    Attributes:
        alternatives: For each alternative the words for it.
        of_noun: Whether they exclude each other only where they are said of the same noun.
    """

    alternatives: tuple[frozenset[str], ...]
    of_noun: bool


@cache
def read_groups(source: str = "") -> tuple[Group, ...]:
    """Reads groups of exclusive words, one a line: `red | blue, navy`, with `of:` before groups that need one noun.

    Args:
        source: Path of a text file; empty takes the shipped one.

    Raises:
        UserError: If there is no such file.
    """
    path = find(source) if source else None
    if source and (path is None or not path.is_file()):
        raise UserError(f"`stage1.exclusive` must name a text file. Got {source!r}, which is none.")
    try:
        text = path.read_text(encoding="utf-8") if path else template("stage1", "exclusive")
    except UnicodeDecodeError as error:
        raise UserError(f"`stage1.exclusive` must name a text file in UTF-8. Got {source!r}: {error}.") from error
    groups = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            body = line.removeprefix("of:")
            sets = tuple(frozenset(part.strip() for part in item.split(",")) for item in body.split("|"))
            groups.append(Group(sets, line.startswith("of:")))
    return tuple(groups)


def _mentions(text: str, group: Group) -> set[tuple[int, str]]:
    """(alternative, noun) of each word of the group in a text; the noun is empty where it does not matter."""
    found = set()
    members = {word for alternative in group.alternatives for word in alternative}
    spoken = [word for word in words(text) if word in members or word not in stop_words()]
    for position, word in enumerate(spoken):
        for number, alternative in enumerate(group.alternatives):
            if word in alternative:
                rest = [other for other in spoken[position + 1 :] if other not in members]
                found.add((number, stem(rest[0]) if rest and group.of_noun else ""))
    return found


def contradicts(modifier: str, text: str, groups: Sequence[Group]) -> bool:
    """Whether a modifier says something that excludes what a text says.

    Args:
        modifier: The modifier.
        text: The user's prompt, or another modifier.
        groups: Words that exclude each other.
    """
    for group in groups:
        asked, added = _mentions(text, group), _mentions(modifier, group)
        for number, noun in added:
            same_noun = {other for other, other_noun in asked if other_noun == noun}
            if same_noun and number not in same_noun:
                return True
    return False


def select(found: Sequence[Found], request: str, threshold: float, groups: Sequence[Group]) -> list[Outcome]:
    """What becomes of each phrase that was retrieved for a prompt.

    Of the places only the nearest is a candidate, since a video has one. A phrase is a duplicate if the request and the
    nearer phrases that were chosen have all its words; one that contradicts a nearer phrase that was chosen gives way to it.

    Args:
        found: What was retrieved, in the order of retrieval.
        request: The user's prompt.
        threshold: Least cosine.
        groups: Words that exclude each other.
    """
    outcomes: list[Outcome] = ["below threshold"] * len(found)
    said = telling_stems(request)
    chosen: list[str] = []
    places = [index for index, item in enumerate(found) if item.kind == "place"]
    for index in sorted(range(len(found)), key=lambda index: (-found[index].score, index)):
        item = found[index]
        if item.score < threshold:
            continue
        if item.kind == "place" and index != places[0]:
            outcomes[index] = "not the best place"
        elif telling_stems(item.phrase) <= said:
            outcomes[index] = "duplicate"
        elif contradicts(item.phrase, request, groups):
            outcomes[index] = "contradicts the request"
        elif any(contradicts(item.phrase, other, groups) for other in chosen):
            outcomes[index] = "contradicts another modifier"
        else:
            outcomes[index] = "chosen"
            chosen.append(item.phrase)
            said |= telling_stems(item.phrase)
    return outcomes
