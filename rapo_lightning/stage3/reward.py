"""From preferences to a reward model's folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only

from ..checkpoints import weights_identity
from ..console import say
from ..models.reward_model import CONFIG, RewardFolder, load_classifier, read_reward_folder
from .adapter import trainable
from .card import reward_card_text
from .curves import write_metrics
from .engines import Best, Plan, make_engine
from .export import hub_name, recover, write_folder
from .pairs import instruction


def train_reward_model(plan: Plan, base: str) -> Path:
    """Trains a reward model and writes it to the run's folder `reward`; goes on or does nothing as `train_refiner`.

    Args:
        plan: The training.
        base: Name of the base model's checkpoint.

    Returns:
        The reward model's folder.
    """
    stage3, target, engine = plan.recipe.stage3, plan.folder / "reward", make_engine(plan)
    settings = RewardFolder(base, instruction(stage3), weights_identity(base), plan.identity)
    rank_zero_only(recover)(target)
    known = read_reward_folder(target)[1] if (target / CONFIG).is_file() else None
    if engine.is_finished() and known == settings and not plan.is_trial:
        say(f"This training is done: its reward model is in {target}.")
        return target
    torch.manual_seed(plan.recipe.seed)
    classifier, tokenizer = load_classifier(
        base, torch.float32 if plan.precision == "32-true" else torch.bfloat16
    )  # fmt: skip
    model = trainable(classifier, stage3, "SEQ_CLS")
    if plan.is_trial or not engine.is_finished():
        engine.fit(model, plan.data(tokenizer))
    if plan.is_trial:
        return target
    engine.barrier()
    engine.restore(model)
    _write_reward_model(plan, engine.best(), model, tokenizer, settings, target)
    engine.barrier()
    return target


@rank_zero_only
def _write_reward_model(
    plan: Plan, best: Best, model: Any, tokenizer: Any, settings: RewardFolder, target: Path
) -> None:
    def write(folder: Path) -> None:
        model.peft_config["default"].base_model_name_or_path = hub_name(settings.base_model)
        model.save_pretrained(folder, save_embedding_layers=False)
        tokenizer.save_pretrained(folder)
        (folder / CONFIG).write_text(settings.text(), encoding="utf-8")
        (folder / "README.md").write_text(reward_card_text(plan, settings, best), encoding="utf-8")

    write_metrics([plan.identity], plan.folder, best.epoch)
    write_folder(target, write, "reward model", "choose another `--out`, and run the same command again")
    told = "" if math.isnan(best.figure) else f", {plan.monitor[0]} {best.figure:.4f}"
    say(f"reward model written to {target} (epoch {best.epoch}{told})")
