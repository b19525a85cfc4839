"""Texts of differing quality for one request, for draft videos: captions that are right, partly right, and the request itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...data.ids import derived_seed
from ...data.prompts import Prompt
from ...errors import UserError
from ..captions import caption
from ..changing import SECOND, options, with_value
from ..reading import read_caption
from ..requests import asked
from ..scene import Scene
from ..world import DIRECTED_MOTIONS, DIRECTIONS

KINDS = ("reference", "changed-1", "stage1", "changed-2", "raw", "changed-3", "changed-1b", "changed-2b", "changed-3b")
"""Kinds of texts in the order in which they are taken: the prompt's reference, the caption of a scene in which one to three of the
attributes that were asked for differ, what stage 1's rewriter makes of the request, and the request as it is."""
Rewrite = Callable[[Sequence[str]], list[str]]
"""Texts of requests."""


def _changed(scene: Scene, key: str, rng: np.random.Generator) -> Scene:
    others = [value for value in options(scene, key) if value != scene.attributes[key]]
    if key.removesuffix(SECOND) == "colour":
        # Two bodies keep different colours, or nobody could say which is which.
        others = [value for value in others if value not in {body.colour for body in scene.bodies}]
    value = str(rng.choice(others))
    directed = key == "motion" and value in DIRECTED_MOTIONS
    return with_value(scene, key, value, scene.direction or str(rng.choice(DIRECTIONS)) if directed else "")


def changed_caption(prompt: Prompt, count: int, rng: np.random.Generator) -> str:
    """The caption of the reference's scene with some of the attributes changed that the prompt asks for.

    Args:
        prompt: A prompt with a reference in the captions' style.
        count: How many; fewer where the prompt asks for fewer that can be changed.
        rng: Chooses attributes, values and wording.

    Raises:
        UserError: If the reference is no such caption.
    """
    scene = read_caption(prompt.reference)
    if scene is None:
        raise UserError(
            f"Draft videos need references in the captions' style. Got {prompt.reference[:80]!r}; take prompts of the lab."
        )
    wanted = [key for key in asked(prompt.text) if len(set(options(scene, key))) > 1]
    for key in rng.permutation(wanted)[:count]:
        # A new motion may have taken the direction away.
        if str(key) in scene.attributes:
            scene = _changed(scene, str(key), rng)
    return caption(scene, rng)


def candidate_texts(prompts: Sequence[Prompt], count: int, rewrite: Rewrite) -> list[list[str]]:
    """The candidates of each prompt, of the first `count` of `KINDS`.

    Args:
        prompts: The prompts, with references.
        count: How many of each.
        rewrite: What stage 1's rewriter makes of requests; called if there is one among the candidates.

    Raises:
        UserError: If there are not so many kinds, or a reference is no caption.
    """
    if not 2 <= count <= len(KINDS):
        raise UserError(f"`--candidates` must be 2 to {len(KINDS)}. Got {count}; take one of these.")
    kinds = KINDS[:count]
    rewritten = rewrite([prompt.text for prompt in prompts]) if "stage1" in kinds else []
    found = []
    for place, prompt in enumerate(prompts):
        texts = {"reference": prompt.reference, "raw": prompt.text}
        if rewritten:
            texts["stage1"] = rewritten[place]
        for kind in kinds:
            if kind.startswith("changed"):
                rng = np.random.default_rng(derived_seed("drafts", kind, prompt.id))
                texts[kind] = changed_caption(prompt, int(kind.split("-")[1][0]), rng)
        found.append([texts[kind] for kind in kinds])
    return found
