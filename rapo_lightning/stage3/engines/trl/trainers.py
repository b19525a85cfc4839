"""TRL's trainers on our tokens, in our order, validated as the engine `lightning` validates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

from datamodules import PairDataModule
from datamodules.pairs import Form, Tokens
from datamodules.steps import StepOrder

from ....recipe import Stage3
from ...objectives import Objective, PreferenceAccuracy
from .grpo import GrpoTrainer


class Ours:
    """What each of TRL's trainers takes from us: tokens as they are, and the order of the epochs."""

    pairs: PairDataModule
    objective: Objective

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        # Accelerate deals its batches out to the devices, so a step has the same pairs as in the engine `lightning`.
        pairs = self.pairs
        return StepOrder([pairs.form.length(item) for item in pairs.training], pairs.step, pairs.seed)


class Validated(Ours):
    """Validates by the objective's own loss, a mean over tokens or pairs whatever the batches and devices."""

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Computes the figures of the validation pairs and reports them as TRL's trainers do."""
        trainer: Any = self
        model, pairs = trainer.model, self.pairs
        model.eval()
        accuracy = PreferenceAccuracy(self.objective.stage3, self.objective.tokenizer)
        sums = self._sums(model, pairs.validation, pairs.form, self.objective)
        sums += self._sums(model, pairs.preferences, accuracy, accuracy)
        total, count, preferred, of = trainer.accelerator.reduce(sums, "sum").tolist()
        metrics = {f"{metric_key_prefix}_loss": total / count}
        if of:
            metrics[f"{metric_key_prefix}_val_preference"] = preferred / of
        model.train()
        trainer.log(metrics)
        trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, metrics)
        return metrics

    def _sums(self, model: Any, examples: Sequence[Tokens], form: Form, objective: Objective) -> torch.Tensor:
        """Loss, what it counts, preferred ones and preferences, summed over this process's share `(4,)`."""
        trainer: Any = self
        device, size = trainer.accelerator.device, self.pairs.batch_size
        share = examples[trainer.accelerator.process_index :: trainer.accelerator.num_processes]
        sums = torch.zeros(4, dtype=torch.float64, device=device)
        for start in range(0, len(share), size):
            batch = {name: value.to(device) for name, value in form.collate(share[start : start + size]).items()}
            with torch.no_grad(), trainer.compute_loss_context_manager():
                found = objective.loss(model, batch)
            zero = (torch.zeros((), device=device), torch.zeros((), device=device))
            figures = (found.total, found.count, *found.shares.get("preference", zero))
            sums += torch.stack([figure.double() for figure in figures])
        return sums


class Sft(Validated, SFTTrainer):  # type: ignore[misc]
    """Supervised fine-tuning; TRL computes the loss."""


class WeightedSft(Validated, SFTTrainer):  # type: ignore[misc]
    """Supervised fine-tuning with weights, which TRL does not know: the loss is the objective's."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Weighted sum over the tokens of the micro-batch, divided by the tokens of the step on all devices."""
        found = self.objective.loss(model, inputs)
        loss = found.total / (found.count if num_items_in_batch is None else num_items_in_batch)
        # DistributedDataParallel divides by the devices, but these are tokens of all of them.
        return loss * (self.accelerator.num_processes if num_items_in_batch is not None else 1)


class Dpo(Validated, DPOTrainer):  # type: ignore[misc]
    """Direct preference optimization; TRL computes the loss.

    It takes the mean of the micro-batches' means; here a step is the mean over its pairs, however they are shared out.
    """

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Notes how many pairs a step has, on all devices."""
        samples, items = super().get_batch_samples(*args, **kwargs)
        pairs = torch.tensor(sum(len(batch["input_ids"]) // 2 for batch in samples), device=self.accelerator.device)
        self._per_micro_batch = float(self.accelerator.gather(pairs).float().mean()) / max(len(samples), 1)
        return samples, items

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL's mean over the pairs of a micro-batch, by how many these are."""
        return super().compute_loss(model, inputs, *args, **kwargs) * (
            len(inputs["input_ids"]) // 2 / self._per_micro_batch
        )


class Kto(Ours, KTOTrainer):  # type: ignore[misc]
    """Kahneman-Tversky optimization; TRL computes the loss and validates."""


class Reward(Ours, RewardTrainer):  # type: ignore[misc]
    """A reward model; TRL computes the loss and validates."""


TRAINERS: dict[str, tuple[type[Any], type[Any]]] = {
    "sft": (Sft, SFTConfig),
    "weighted_sft": (WeightedSft, SFTConfig),
    "dpo": (Dpo, DPOConfig),
    "kto": (Kto, KTOConfig),
    "reward": (Reward, RewardConfig),
    "grpo": (GrpoTrainer, GRPOConfig),
}
"""Trainer and its configuration by the objective's name."""


def own_arguments(objective: str, stage3: Stage3) -> dict[str, Any]:
    """The arguments of a configuration that only its trainer has.

    Args:
        objective: Name of the objective.
        stage3: The recipe's settings.
    """
    none: dict[str, Any] = {"max_length": None}
    if objective == "dpo":
        return {**none, "beta": stage3.dpo.beta}
    if objective == "kto":
        kto = stage3.kto
        weights = {"desirable_weight": kto.desirable_weight, "undesirable_weight": kto.undesirable_weight}
        return {**none, "beta": kto.beta, **weights}
    if objective == "grpo":
        grpo, longest = stage3.grpo, stage3.sampling.max_new_tokens
        sampled = {"temperature": grpo.temperature, "max_completion_length": longest}
        return {"beta": grpo.beta, "num_generations": grpo.group, **sampled}
    if objective == "reward":
        return none
    return {**none, "packing": False, "dataset_kwargs": {"skip_prepare_dataset": True}}
