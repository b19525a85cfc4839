"""`validate`: everything that can be checked without loading weights, all faults at once."""

from __future__ import annotations

from collections.abc import Callable

from ..checkpoints import entries, locate
from ..data.prompts import read_prompts
from ..errors import UserError
from ..prompting.examples import read_examples
from ..recipe import Component, Recipe
from ..recipe.components import check
from ..stage1.align import AlignModels
from .common import checkpoint_names
from .evaluate import check_arms, needs_stage1


def _checkpoint(name: str) -> None:
    # Known checkpoints are fetched when they are needed.
    if name not in entries():
        locate(name)


def _evaluation(recipe: Recipe) -> None:
    prompts = read_prompts(recipe.evaluation.prompts, recipe.evaluation.limit, "evaluation.prompts")
    check_arms(recipe, prompts)


def _prompts(recipe: Recipe) -> None:
    read_prompts(recipe.prompts, recipe.limit)


def faults(recipe: Recipe) -> list[str]:
    """All faults of a recipe, one sentence each.

    A recipe that names a language model and nothing else is for `finetune --pairs` alone.
    """
    others = [recipe.video_model, recipe.vision_language_model, recipe.embedder, recipe.evaluation.metric]
    others += recipe.stage2.verifiers
    if recipe.language_model.get("class_path") and not any(item.get("class_path") for item in others):
        alone: list[Callable[[], object]] = [lambda: check(recipe.language_model, "language_model")]
        alone += [lambda name=name: _checkpoint(name) for name in checkpoint_names(recipe)]  # type: ignore[misc]
        return _faults_of(alone)
    components: dict[str, Component] = {
        name: getattr(recipe, name) for name in ("video_model", "language_model", "embedder")
    }
    if recipe.vision_language_model.get("class_path"):
        components["vision_language_model"] = recipe.vision_language_model
    components |= {f"stage2.verifiers[{i}]": item for i, item in enumerate(recipe.stage2.verifiers)}
    components["evaluation.metric"] = recipe.evaluation.metric
    checks: list[Callable[[], object]] = [
        lambda component=component, field=field: check(component, field)  # type: ignore[misc]
        for field, component in components.items()
    ]
    checks += [lambda name=name: _checkpoint(name) for name in checkpoint_names(recipe)]  # type: ignore[misc]
    checks += [lambda: _prompts(recipe), lambda: _evaluation(recipe)]
    if recipe.stage2.start == "stage1" or needs_stage1(recipe):
        checks.append(lambda: AlignModels.from_recipe(recipe))
    for name in ("extractor", "degrader"):
        component = getattr(recipe.stage1, name)
        if component.get("class_path"):
            checks.append(lambda component=component, name=name: check(component, f"stage1.{name}"))  # type: ignore[misc]
    if recipe.stage2.examples:
        checks.append(lambda: read_examples(recipe.stage2.examples))
    missing = [] if recipe.stage2.verifiers else ["`stage2.verifiers` must name at least one verifier. Got none."]
    return missing + _faults_of(checks)


def _faults_of(checks: list[Callable[[], object]]) -> list[str]:
    found = []
    for run in checks:
        try:
            run()
        except UserError as error:
            found.append(str(error))
    return found


def validate(recipe: Recipe) -> None:
    """Prints a line if the recipe is well-formed.

    Raises:
        UserError: With all faults, one a line.
    """
    found = faults(recipe)
    if found:
        raise UserError(
            f"The recipe {recipe.name!r} has {len(found)} faults:\n" + "\n".join(f"  {item}" for item in found)
        )
    print(f"The recipe {recipe.name!r} is well-formed.")
