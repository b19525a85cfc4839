"""The model card of a refiner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..recipe import Recipe
from .pairs import PairReport

_CARD = """\
---
base_model: {base}
library_name: peft
pipeline_tag: text-generation
tags: [prompt-refinement, text-to-video, rapo-lightning]
---
# Prompt refiner for {video_model}

Rewrites a person's short prompt into one that {video_model} follows better. A LoRA adapter for `{base}`, fine-tuned on
{origin}.

```python
from rapo_lightning import Refiner

refine = Refiner.from_pretrained("{folder}")
print(refine("{example}"))
```

| | |
|---|---|
| data | {report} |
| verifiers | {verifiers} |
| objective | {objective}, {epochs} epochs, batch {batch}, peak learning rate {lr:g} |
| LoRA | rank {r}, alpha {alpha}, dropout {dropout}, {modules} |
| validation loss | {val_loss} (epoch {epoch}, the best of {epochs}) on {validation} prompts never trained on |
| seed | {seed} |
| recipe hash of the trajectories | {recipe_hash} |

{caution}; measure it with another instrument before you rely on it (`rapo-lightning evaluate`).
"""
_LOOP = """\
the best rounds of a closed loop that generated videos, judged them and rewrote their prompts (RAPO++,
arXiv:2510.20206, stage 3)"""
_PAIRS = "pairs of a request and the prompt that answers it, such as stage 1's reverse construction makes (RAPO, arXiv:2504.11739)"


@dataclass(frozen=True)
class TrainingSummary:
    """What the card says of a training.

    Attributes:
        report: Pairs kept and dropped; None for pairs from a CSV.
        pairs: Number of training pairs.
        validation: Number of validation pairs.
        val_loss: Best validation loss, NaN if there was none.
        epoch: Its epoch, from 1.
        example: A request from the data.
    """

    report: PairReport | None
    pairs: int
    validation: int
    val_loss: float
    epoch: int
    example: str


def write_card(folder: Path, recipe: Recipe, base: str, summary: TrainingSummary) -> None:
    """Writes `README.md` into a refiner folder."""
    stage3 = recipe.stage3
    checkpoint = recipe.video_model.get("init_args", {}).get("checkpoint", "")
    looped = summary.report is not None
    text = _CARD.format(
        base=base,
        video_model=f"`{checkpoint}`" if checkpoint else "a video model",
        origin=_LOOP if looped else _PAIRS,
        caution="It learned from one video model's videos and those verifiers' taste"
        if looped
        else "It learned from pairs alone and has seen no video",
        folder=f"runs/{recipe.name}/refiner",
        example=summary.example.replace('"', "'"),
        report=summary.report or f"{summary.pairs} pairs from a CSV",
        verifiers=", ".join(item.get("class_path", "") for item in recipe.stage2.verifiers) or "none",
        objective=stage3.objective,
        epochs=stage3.epochs,
        batch=stage3.optimizer.batch_size,
        lr=stage3.optimizer.lr,
        r=stage3.lora.r,
        alpha=stage3.lora.alpha,
        dropout=stage3.lora.dropout,
        modules=", ".join(stage3.lora.target_modules),
        val_loss=f"{summary.val_loss:.4f}" if summary.val_loss == summary.val_loss else "not measured",
        epoch=summary.epoch,
        validation=summary.validation,
        seed=recipe.seed,
        recipe_hash=recipe.row_hash(),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
