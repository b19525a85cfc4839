"""`validate`: everything that can be checked without loading weights, all faults at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..errors import UserError
from ..recipe import Recipe

_Check = Callable[[], object]


def _is_for_training_alone(recipe: Recipe) -> bool:
    """Whether a recipe names a language model and nothing else: it is for `finetune --pairs`."""
    others = [recipe.video_model, recipe.vision_language_model, recipe.embedder, recipe.evaluation.metric]
    others += recipe.stage2.verifiers
    return bool(recipe.language_model.get("class_path")) and not any(item.get("class_path") for item in others)


def _language_model(recipe: Recipe) -> Iterator[_Check]:
    from ..checkpoints import entries, locate
    from ..recipe.components import check
    from ..recipe.objectives import objective_parts
    from ..recipe.pairs import build_filters, build_reader, build_rewards
    from ..running.pool import checkpoint_names
    from ..running.trainer import check_trainer
    from ..stage3.engines.plan import engine_of

    yield lambda: check(recipe.language_model, "language_model")
    yield lambda: _check_quantization(recipe)
    for name in checkpoint_names(recipe):
        if name not in entries():
            # Known checkpoints are fetched when they are needed.
            yield lambda name=name: locate(name)  # type: ignore[misc]
    yield lambda: check_trainer(recipe.trainer)
    yield lambda: build_filters(recipe.stage3)
    yield lambda: build_reader(recipe.stage3)
    for objective in objective_parts(recipe.stage3.objective):
        yield lambda name=objective: engine_of(recipe.stage3, name)  # type: ignore[misc]
        if objective == "grpo":
            yield lambda: build_rewards(recipe.stage3)


def _all_stages(recipe: Recipe) -> Iterator[_Check]:
    from ..data.prompts import read_prompts
    from ..evaluation.checks import check_arms, needs_stage1
    from ..models import ModelPool
    from ..models.refiner_folder import read_refiner
    from ..prompting.examples import read_examples
    from ..recipe.components import check
    from ..recipe.variants import variant
    from ..recipe.verifiers import check_verifier_names
    from ..running.pool import open_pool
    from ..stage1.align import AlignParts
    from ..stage2.judges import build_judge, build_judges

    evaluation = recipe.evaluation
    yield lambda: check(recipe.video_model, "video_model")
    yield lambda: _check_folder(recipe)
    yield lambda: check(recipe.embedder, "embedder")
    yield lambda: open_pool(recipe, ())
    yield lambda: build_judges(recipe)
    yield lambda: check_verifier_names(recipe)
    yield lambda: build_judge(recipe, evaluation.metric, "evaluation.metric")
    yield lambda: read_prompts(recipe.prompts, recipe.limit)
    yield lambda: check_arms(recipe, read_prompts(evaluation.prompts, evaluation.limit, "evaluation.prompts"))
    if recipe.stage2.start == "stage1" or needs_stage1(recipe):
        yield lambda: AlignParts.from_recipe(recipe, ModelPool())
    for name in evaluation.variants:
        yield lambda name=name: AlignParts.from_recipe(variant(recipe, name), ModelPool())  # type: ignore[misc]
    if recipe.stage1.extractor.get("class_path"):
        yield lambda: check(recipe.stage1.extractor, "stage1.extractor")
    if recipe.stage1.degrader.get("class_path"):
        yield lambda: check(recipe.stage1.degrader, "stage1.degrader")
    if recipe.stage2.rewriter:
        yield lambda: read_refiner(recipe.stage2.rewriter)
    if recipe.stage2.examples:
        yield lambda: read_examples(recipe.stage2.examples)


def _check_quantization(recipe: Recipe) -> None:
    """Looks whether models can be quantized as they are asked to; what this machine has is not looked at."""
    from ..models.quantization import check_arguments, check_not_quantized, check_residency
    from ..recipe.components import check

    for field in ("language_model", "vision_language_model"):
        model = getattr(recipe, field)
        if "quantization" in model.get("init_args", {}) and ".models.Transformers" in model.get("class_path", ""):
            _, arguments = check(model, field)
            kind = arguments["quantization"]
            check_arguments(kind, arguments["batch_size"], arguments.get("adapter", ""), installed=True)
            check_residency(kind, recipe.residency)
            check_not_quantized(kind, arguments["checkpoint"])


def _check_folder(recipe: Recipe) -> None:
    """Looks into the video model's folder, and at its LoRA, where they are here."""
    from pathlib import Path

    from ..checkpoints import is_here, locate
    from ..models.diffusers_lora import check_fit, lora_of
    from ..models.diffusers_parts import diffusers_class
    from ..models.pipeline_folder import check_pipeline_folder
    from ..recipe.components import check

    if not recipe.video_model.get("class_path", "").endswith(".DiffusersVideoModel"):
        return
    _, arguments = check(recipe.video_model, "video_model")
    name = arguments["checkpoint"]
    lora = lora_of(arguments)
    if is_here(name) and Path(locate(name)).is_dir():
        check_pipeline_folder(Path(locate(name)), arguments["pipeline"])
        if lora is not None and is_here(lora.checkpoint):
            check_fit(lora, diffusers_class(arguments["pipeline"], "DiffusionPipeline", "pipeline"), locate(name))


def faults(recipe: Recipe) -> list[str]:
    """All faults of a recipe, one sentence each."""
    checks = [*_language_model(recipe)]
    checks += [] if _is_for_training_alone(recipe) else [*_all_stages(recipe)]
    found = []
    for run in checks:
        try:
            run()
        except UserError as error:
            found.append(str(error))
    # A fault that two checks meet is one fault.
    return list(dict.fromkeys(found))


def validate(recipe: Recipe) -> None:
    """Check a recipe without loading weights, all faults at once, and print what memory it needs.

    Args:
        recipe: The recipe.

    Raises:
        UserError: With all faults, one a line.
    """
    found = faults(recipe)
    if found:
        raise UserError(
            f"The recipe {recipe.name!r} has {len(found)} faults:\n" + "\n".join(f"  {item}" for item in found)
        )
    print(f"The recipe {recipe.name!r} is well-formed.")
    if not _is_for_training_alone(recipe):
        from ..running.memory_plan import plan, told

        print("\n".join(told(recipe, plan(recipe))))
