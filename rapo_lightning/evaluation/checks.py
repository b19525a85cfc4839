"""What the arms of an evaluation need, checked before any model loads."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.prompts import Prompt
from ..errors import UserError
from ..recipe import Recipe
from ..recipe.components import build
from ..recipe.evaluation import LOOPS
from ..recipe.variants import variant
from ..stage2.judges import models_used
from ..stage3.pairs.filter import plain


def needs_stage1(recipe: Recipe) -> bool:
    """Whether an arm runs stage 1 with the recipe's own settings."""
    arms = recipe.evaluation.arms
    return "stage1" in arms or (recipe.stage2.start == "stage1" and bool({"sspo", "blind"} & set(arms)))


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """The recipes of the variants that are arms.

    Raises:
        UserError: If one does not fit the recipe.
    """
    return {name: variant(recipe, name) for name in recipe.evaluation.arms if name in recipe.evaluation.variants}


def uses_base(recipe: Recipe) -> bool:
    """Whether an arm may ask the language model without the refiner's adapter."""
    settings = recipe.evaluation
    # Adapters of several refiners take turns on one base.
    others = (*LOOPS, *settings.variants, *settings.baselines, *settings.refiners)
    return needs_stage1(recipe) or any(arm in others for arm in settings.arms)


def check_arms(recipe: Recipe, prompts: Sequence[Prompt]) -> None:
    """Checks that each arm has what it needs, and that every baseline and variant is well-formed.

    Raises:
        UserError: If one has not, or is not.
    """
    settings = recipe.evaluation
    for name in settings.variants:
        variant(recipe, name)
    for name, component in settings.baselines.items():
        baseline = build(component, f"evaluation.baselines[{name}]")
        if name in settings.arms:
            models_used(recipe, baseline, f"evaluation.baselines[{name}]")
    for arm in ("reference", "chance"):
        if arm in settings.arms and not all(prompt.reference for prompt in prompts):
            raise UserError(
                f"The arm `{arm}` needs a column `reference` with text in every row of the held-out prompts. Got prompts "
                "without; add the column or leave the arm out of `evaluation.arms`."
            )
    if "chance" in settings.arms:
        chance_texts(prompts)
    if settings.seed == recipe.seed and any(arm in LOOPS for arm in settings.arms):
        raise UserError(
            "`evaluation.seed` must be another than the recipe's `seed`, with which the arms choose among several videos. Got "
            f"{settings.seed} for both; change one."
        )


def check_held_out(held_out: Sequence[Prompt], prompts: Sequence[Prompt]) -> None:
    """Checks that nothing is collected on a prompt that is evaluated on; case and spaces do not count.

    Raises:
        UserError: If something is.
    """
    collected = {plain(prompt.text) for prompt in prompts}
    shared = [prompt.text for prompt in held_out if plain(prompt.text) in collected]
    if shared:
        raise UserError(
            "`evaluation.prompts` must be others than `prompts`, or a refiner is measured on what it was trained on. Got "
            f"{len(shared)} that are in both, such as {shared[0]!r}; take them out of one."
        )


def chance_texts(prompts: Sequence[Prompt]) -> dict[str, str]:
    """For each prompt, by its id, the reference of the next prompt that has another.

    Raises:
        UserError: If all references are equal.
    """
    references = [prompt.reference for prompt in prompts]
    if len(set(references)) < 2:
        raise UserError(
            f"The arm `chance` needs prompts with different references. Got {len(prompts)} with one reference; take more "
            "prompts or leave the arm out of `evaluation.arms`."
        )
    turned = references * 2
    return {
        prompt.id: next(text for text in turned[number + 1 :] if text != prompt.reference)
        for number, prompt in enumerate(prompts)
    }
