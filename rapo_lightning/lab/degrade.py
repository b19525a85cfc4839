"""The lab's degrader: turns a training caption into a short request, the input side of reverse construction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml

from ..data.ids import derived_seed
from ..errors import UserError
from .reading import BODY, PLACE, read_caption
from .scene import Scene

UNKNOWN_SHARE = 0.06
"""Probability that a colour, a shape, a place or (once and a half as often) an action is one that no caption names. At 0.15
the rewriter also kept words that it should have read ("wedge")."""
_CHOICE = re.compile(r"\(([^()]*)\)")
_PLACE_STARTS = ("in ", "on ", "at ", "by ", "under ", "underground", "where ", "when ", "among ", "below ", "past ")


@cache
def thesaurus() -> dict[str, Any]:
    """The wordings of `thesaurus.yaml`."""
    return dict(yaml.safe_load((files(__package__) / "thesaurus.yaml").read_text(encoding="utf-8")))


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def expand(text: str, rng: np.random.Generator) -> str:
    """Draws one of the alternatives of each `(a|b|)` of a wording, inner ones first."""
    while _CHOICE.search(text):
        text = _CHOICE.sub(lambda match: _pick(rng, match[1].split("|")), text)
    return " ".join(text.split())


UNKNOWN = "unknown"
"""Stands in `Degraded.named` for what no caption names."""


@dataclass(frozen=True)
class _Part:
    """One part of a scene: how the request words it, how the caption does, and which attributes the request names."""

    request: str
    caption: str
    named: dict[str, str]


@dataclass(frozen=True)
class Degraded:
    """A request with what answers it.

    Attributes:
        request: What a person might have typed.
        answer: The caption that answers it.
        named: What the request names, by the keys of `requests.asked`; `UNKNOWN` for what no caption names.
    """

    request: str
    answer: str
    named: dict[str, str]


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _body(scene: Scene, index: int, rng: np.random.Generator) -> _Part:
    words, body = thesaurus(), scene.bodies[index]
    colour, shape = _pick(rng, words["colours"][body.colour]), _pick(rng, words["shapes"][body.shape])
    size = _pick(rng, words["sizes"][body.size]) if rng.random() < 0.35 else ""
    shown = ["medium-sized" if body.size == "medium" else body.size, body.colour, body.shape]
    named = {"shape": body.shape, "colour": body.colour, "size": body.size}
    if rng.random() < UNKNOWN_SHARE:
        colour = shown[1] = _pick(rng, words["unknown"]["adjectives"])
        named["colour"] = UNKNOWN
    elif rng.random() < 0.1:
        colour = ""
    if rng.random() < UNKNOWN_SHARE:
        shape = shown[2] = _pick(rng, words["unknown"]["nouns"])
        named["shape"] = UNKNOWN
        # A cat has no colour of the lab's unless the request gives it one.
        colour = "" if rng.random() < 0.5 else colour
        shown = [shown[0] if size else "", shown[1] if colour else "", shape]
    text = " ".join(part for part in (size, colour, shape) if part)
    article = _pick(rng, ("a", "a", "the", ""))
    request = _article(text) if article == "a" else f"{article} {text}".strip()
    said = {"shape": shape, "colour": colour, "size": size}
    suffix = "_2" if index else ""
    told = {f"{key}{suffix}": value for key, value in named.items() if said[key]}
    return _Part(request, _article(" ".join(part for part in shown if part)), told)


def _action(scene: Scene, caption: str, bodies: list[_Part], rng: np.random.Generator) -> _Part:
    """The request without its place, and the caption's clause for it."""
    words = thesaurus()
    spans = list(BODY.finditer(caption))
    end = PLACE.search(caption).start()  # type: ignore[union-attr]
    if len(bodies) == 1 and rng.random() < 1.5 * UNKNOWN_SHARE:
        action = expand(_pick(rng, words["unknown"]["actions"]), rng)
        return _Part(f"{bodies[0].request} {action}", f"{bodies[0].caption} {action}", {"motion": UNKNOWN})
    if rng.random() < UNKNOWN_SHARE:
        # Requests that name things and no action.
        return _Part(" and ".join(b.request for b in bodies), " and ".join(b.caption for b in bodies), {})
    known = scene.direction and rng.random() < 0.6
    direction = _pick(rng, words["directions"][scene.direction]) if known else ""
    text = expand(_pick(rng, words["motions"][scene.motion]), rng)
    names = {"a": bodies[0].request, "b": bodies[-1].request, "d": direction}
    request = text.format(**names) if len(bodies) == 2 else f"{bodies[0].request} {text.format(**names)}"
    clause = caption[spans[0].start() : end]
    for span, body in zip(reversed(spans), reversed(bodies), strict=True):
        begin = spans[0].start()
        clause = clause[: span.start() - begin] + body.caption + clause[span.end() - begin :]
    told = {"motion": scene.motion} | ({"direction": scene.direction} if direction and "{d}" in text else {})
    return _Part(request, clause, told)


def _place(scene: Scene, caption: str, rng: np.random.Generator) -> _Part:
    words, shown = thesaurus(), PLACE.search(caption)[1]  # type: ignore[index]
    if rng.random() > 0.5:
        return _Part("", shown, {})
    place, named = _pick(rng, words["backgrounds"][scene.background]), scene.background
    if rng.random() < UNKNOWN_SHARE:
        place = shown = _pick(rng, words["unknown"]["places"])
        named = UNKNOWN
    return _Part(f" {place}" if place.startswith(_PLACE_STARTS) else f", {place}", shown, {"background": named})


def degrade_caption(caption: str, scene: Scene, rng: np.random.Generator) -> Degraded:
    """A request for a caption's scene, the caption that answers it, and what the request names.

    The request leaves out what a person would leave out: the size mostly, the place and the direction often. Where it
    names something that no caption names, the answer keeps the request's own words.

    Args:
        caption: A training-style caption.
        scene: Its scene.
        rng: Chooses wordings and what is left out.
    """
    words = thesaurus()
    bodies = [_body(scene, index, rng) for index in range(len(scene.bodies))]
    action, place = _action(scene, caption, bodies, rng), _place(scene, caption, rng)
    request = expand(_pick(rng, words["frames"]), rng).format(s=action.request, bg=place.request)
    request = " ".join(request.split()).replace(" ,", ",").replace(" ?", "?")
    opening = caption[: BODY.search(caption).start()]  # type: ignore[union-attr]
    answer = f"{opening}{action.caption}, {place.caption}{caption[PLACE.search(caption).end(1) :]}"  # type: ignore[union-attr]
    named = {key: value for part in (*bodies, action, place) for key, value in part.named.items()}
    return Degraded(request.capitalize() if rng.random() < 0.3 else request, answer, named)


class LabDegrader:
    """Degrades captions of the lab by rule; for real captions see `stage1.pairs.LanguageModelDegrader`."""

    name = "lab"

    def degrade(self, captions: Sequence[str], seeds: Sequence[int], language_model: object) -> list[tuple[str, str]]:
        """A request and the caption that answers it, a function of caption and seed; see `stage1.pairs.Degrader`.

        Raises:
            UserError: If a caption is not one of the lab's.
        """
        pairs = []
        for caption, seed in zip(captions, seeds, strict=True):
            scene = read_caption(caption)
            if scene is None:
                raise UserError(
                    f"The lab's degrader reads the lab's captions alone. Got {caption[:80]!r}; use "
                    "`rapo_lightning.stage1.pairs.LanguageModelDegrader` for captions of another model."
                )
            made = degrade_caption(caption, scene, np.random.default_rng(derived_seed(seed, caption)))
            pairs.append((made.request, made.answer))
        return pairs
