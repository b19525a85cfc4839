"""The model card of a refiner."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..data.resources import find
from ..models.refiner_folder import CLOSED, RefinerFolder
from ..models.reward_model import RewardFolder
from ..recipe import Recipe
from .engines import Best, Phase, Plan
from .export import hub_name
from .pairs import Funnel

_CARD = """\
---
{base_line}library_name: peft
pipeline_tag: text-generation
tags: [prompt-refinement, text-to-video, rapo-lightning]
---
# Prompt refiner for {video_model}

Rewrites a person's short prompt into one that {video_model} follows better. A {kind} adapter for `{base}`, fine-tuned on
{origin}.{serving}

```python
from rapo_lightning import Refiner

refine = Refiner.from_pretrained("{folder}")
print(refine("{example}"))
```

The conversation it answers has this system message, and the request as the user's turn:

```text
{system}
```

| | |
|---|---|
| base | `{base}`, identity {base_identity} |
| data | {report} |
| verifiers | {verifiers} |
| objective | {objective}, batch {batch} |
{words}| {kind} | rank {r}, alpha {alpha}, dropout {dropout}, {modules}{quantized}{begun} |
| {monitor} | {figure} (epoch {epoch}, the best of {epochs}) on {validation} pairs whose prompts are never trained on |
| seed | {seed} |
| recipe hash of the trajectories | {recipe_hash} |

{caution}; measure it with another instrument before you rely on it (`rapo-lightning evaluate`).
"""
_LOOP = """\
the best rounds of a closed loop that generated videos, judged them and rewrote their prompts (RAPO++,
arXiv:2510.20206, stage 3)"""
_MONITORS = {
    "val_loss": "validation loss",
    "val_preference": "share of held-out preferences",
    "val_reward": "held-out reward",
}
_KINDS = {"lora": "LoRA", "dora": "DoRA", "rslora": "rsLoRA"}
_NO_VLLM = """

vLLM cannot load a DoRA adapter; for a server, merge it into its base first: `rapo-lightning export runs/{name} --merged FOLDER`."""
_PAIRS = "pairs of a request and the prompt that answers it, such as stage 1's reverse construction makes (RAPO, arXiv:2504.11739)"


@dataclass(frozen=True)
class TrainingSummary:
    """What the card says of a training.

    Attributes:
        report: Where the pairs came from and what the filters left.
        pairs: Number of training pairs.
        validation: Number of validation pairs.
        phases: Objectives in order, with their rates and epochs.
        monitor: What the best epoch was chosen by.
        figure: Its best value, NaN if there was none.
        epoch: Its epoch, from 1.
        example: A request from the data.
    """

    report: Funnel
    pairs: int
    validation: int
    phases: list[Phase]
    monitor: str
    figure: float
    epoch: int
    example: str


def card_text(recipe: Recipe, settings: RefinerFolder, summary: TrainingSummary) -> str:
    """The contents of `README.md` in a refiner's folder.

    Args:
        recipe: The recipe it was trained with.
        settings: What the folder says of itself.
        summary: What came out of the training.
    """
    stage3 = recipe.stage3
    checkpoint = recipe.video_model.get("init_args", {}).get("checkpoint", "")
    looped, base = bool(summary.report.recipe_hashes), hub_name(settings.base_model)
    return _CARD.format(
        # The hub refuses a card whose base is a folder.
        base_line="" if find(base) else f"base_model: {base}\n",
        base=base,
        base_identity=settings.base_identity,
        system=settings.system,
        video_model=f"`{checkpoint}`" if checkpoint else "a video model",
        origin=_LOOP if looped else _PAIRS,
        caution="It learned from one video model's videos and those verifiers' taste"
        if looped
        else "It learned from pairs alone and has seen no video",
        folder=f"runs/{recipe.name}/refiner",
        example=summary.example.replace('"', "'"),
        report=f"{summary.report}; {summary.pairs} trained on",
        verifiers=", ".join(item.get("class_path", "") for item in recipe.stage2.verifiers) or "none",
        objective=", then ".join(
            f"{phase.objective} for {phase.epochs} epochs at a peak learning rate of {phase.lr:g}"
            for phase in summary.phases
        ),
        epochs=summary.phases[-1].epochs,
        batch=stage3.optimizer.batch_size,
        kind=_KINDS[stage3.lora.variant],
        serving=_NO_VLLM.format(name=recipe.name) if stage3.lora.variant == "dora" else "",
        quantized=f"; on the base in {stage3.lora.quantization}" if stage3.lora.quantization != "none" else "",
        words=f"| words | {len(settings.closed)} that it keeps to (`{CLOSED}`) |\n" if settings.closed else "",
        begun=f"; begun with the adapter of `{stage3.lora.start}`" if stage3.lora.start else "",
        r=stage3.lora.r,
        alpha=stage3.lora.alpha,
        dropout=stage3.lora.dropout,
        modules=", ".join(stage3.lora.target_modules),
        monitor=_MONITORS[summary.monitor],
        figure="not measured" if math.isnan(summary.figure) else f"{summary.figure:.4f}",
        epoch=summary.epoch,
        validation=summary.validation,
        seed=recipe.seed,
        recipe_hash=", ".join(summary.report.recipe_hashes) or "none",
    )


_REWARD_CARD = """\
---
library_name: peft
pipeline_tag: text-classification
tags: [reward-model, text-to-video, rapo-lightning]
---
# Reward model for prompts of {video_model}

Says how good a prompt is for a request, without a video. An adapter with a head for `{base}`, trained on {pairs} preferences between
rounds of a closed loop (Bradley and Terry); only differences between prompts of one request mean something.

```python
from rapo_lightning.models import RewardModel

reward = RewardModel.from_pretrained("{folder}")
print(reward("a request", "a prompt for it"))
```

Trained for {epochs} epochs at a peak learning rate of {lr:g}, batch {batch}, seed {seed}; {monitor} {figure} (epoch {epoch}) on {validation} held-out
preferences. Base identity {base_identity}. It learned the taste of the verifiers that scored the rounds; a refiner that is trained
to please it can come to please it alone.
"""


def reward_card_text(plan: Plan, settings: RewardFolder, best: Best) -> str:
    """The contents of `README.md` in a reward model's folder.

    Args:
        plan: The training.
        settings: What the folder says of itself.
        best: The epoch that was kept.
    """
    recipe, checkpoint = plan.recipe, plan.recipe.video_model.get("init_args", {}).get("checkpoint", "")
    return _REWARD_CARD.format(
        video_model=f"`{checkpoint}`" if checkpoint else "a video model",
        base=hub_name(settings.base_model),
        base_identity=settings.base_identity,
        folder=f"runs/{recipe.name}/reward",
        pairs=len(plan.rows["train"]),
        validation=len(plan.rows["validation"]),
        epochs=plan.phase.epochs,
        lr=plan.phase.lr,
        batch=recipe.stage3.optimizer.batch_size,
        seed=recipe.seed,
        monitor=_MONITORS[plan.monitor[0]],
        figure="not measured" if math.isnan(best.figure) else f"{best.figure:.4f}",
        epoch=best.epoch,
    )
