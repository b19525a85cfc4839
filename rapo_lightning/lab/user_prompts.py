"""Writes the lab's user prompts: short, varied, often incomplete, in words the captions do not use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .captions import caption
from .lexicon import (
    BACKGROUND_WORDS,
    BESIDE_WORDS,
    COLLIDE_WORDS,
    COLOUR_WORDS,
    DIRECTION_WORDS,
    MOTION_WORDS,
    SHAPE_WORDS,
    SIZE_WORDS,
    SPLITS,
    Wordings,
)
from .scene import Body, Scene, sample_scene
from .world import PHYS_LAWS

# "{s}" is the request, "{bg}" the place, which may be empty.
FRAMES: tuple[tuple[str, ...], tuple[str, ...]] = (
    (
        "{s}{bg}",
        "video of {s}{bg}",
        "show me {s}{bg}",
        "i want {s}{bg}",
        "make a clip with {s}{bg}",
        "{s}{bg} please",
        "can you animate {s}{bg}?",
        "generate {s}{bg}",
        "{s}{bg}, cartoon",
        "imagine {s}{bg}",
        "someone filmed {s}{bg}",
        "{s}{bg} for my kids",
    ),
    (
        "i'd like to watch {s}{bg}",
        "footage of {s}{bg}",
        "just {s}{bg}",
        "could we have {s}{bg}",
        "{s}{bg}, flat style",
        "i need {s}{bg} for a slide",
    ),
)


@dataclass(frozen=True)
class LabPrompt:
    """A user's prompt with the scene it came from and that scene's training-style caption."""

    prompt: str
    phys_law: str
    reference: str
    scene: Scene


def _choose(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _word(rng: np.random.Generator, words: Wordings, name: str, split: str) -> str:
    train = words[name][0]
    # Prompts of the other splits mix known words with words that occur in that split alone.
    return _choose(rng, train if split == "train" else train + words[name][SPLITS.index(split)])


def _body(rng: np.random.Generator, body: Body, split: str) -> str:
    parts = [_word(rng, COLOUR_WORDS, body.colour, split), _word(rng, SHAPE_WORDS, body.shape, split)]
    if rng.random() < 0.35 and body.size != "medium":
        parts.insert(0, _word(rng, SIZE_WORDS, body.size, split))
    article = _choose(rng, ("a", "a", "the", ""))
    if article == "a" and parts[0][0] in "aeiou":
        article = "an"
    return " ".join([article, *parts]).strip()


def _request(rng: np.random.Generator, scene: Scene, split: str) -> str:
    part = SPLITS.index(split)
    bodies = [_body(rng, body, split) for body in scene.bodies]
    direction = ""
    if scene.direction and rng.random() < 0.6:
        direction = _word(rng, DIRECTION_WORDS, scene.direction, split)
    if len(bodies) == 2:
        verbs = COLLIDE_WORDS if scene.motion == "collide" else BESIDE_WORDS
        text = _choose(rng, verbs[part]).format(a=bodies[0], b=bodies[1], d=direction)
    else:
        # The phrasing itself is always of the split: held-out verbs occur in held-out prompts alone.
        text = f"{bodies[0]} {_choose(rng, MOTION_WORDS[scene.motion][part]).format(d=direction)}"
    return " ".join(text.split())


def user_prompt(scene: Scene, rng: np.random.Generator, split: str = "train") -> str:
    """A short prompt that a person might type for a scene.

    Colour and shape are always named, size and background sometimes, the motion always, its direction mostly.

    Args:
        scene: The scene.
        rng: Chooses wording and what is left out.
        split: One of `lexicon.SPLITS`: which phrasings may be used.
    """
    request = _request(rng, scene, split)
    place = f" {_word(rng, BACKGROUND_WORDS, scene.background, split)}" if rng.random() < 0.5 else ""
    if place and not place.startswith((" in ", " on ", " at ", " after ", " before ")):
        place = f", {place.strip()}"
    text = _choose(rng, FRAMES[split == "heldout"]).format(s=request, bg=place)
    return text.capitalize() if rng.random() < 0.3 else text


def lab_prompts(count: int, split: str, seed: int, wording: str = "") -> list[LabPrompt]:
    """Draws distinct user prompts of a split with their scenes and reference captions.

    Args:
        count: How many.
        split: `"train"` or `"heldout"`: which scenes are drawn.
        seed: Seed of the draw; the first `n` prompts of a seed do not depend on `count`.
        wording: The split of the phrasings; empty takes that of the scenes.
    """
    rng = np.random.default_rng(seed)
    prompts: dict[str, LabPrompt] = {}
    while len(prompts) < count:
        scene = sample_scene(rng, split)
        text = user_prompt(scene, rng, wording or split)
        prompts.setdefault(text, LabPrompt(text, PHYS_LAWS[scene.motion], caption(scene, rng), scene))
    return list(prompts.values())
