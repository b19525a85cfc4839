"""The refiner as a LightningModule: a frozen language model with a trained LoRA adapter."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric
from transformers import get_cosine_schedule_with_warmup

from ..data.ids import derived_seed
from ..errors import RunError, UserError
from ..recipe import Lora, Stage3

Batch = dict[str, Tensor]


def _with_adapter(base: Any, lora: Lora) -> Any:
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(base, config)
    except ValueError as error:
        raise UserError(
            f"`stage3.lora.target_modules` must name layers of the language model. Got {lora.target_modules}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error


class RefinerModule(lightning.LightningModule):
    """Supervised fine-tuning; checkpoints hold the adapter alone.

    The loss of an optimizer step is the sum of the losses of all completion tokens, of all its micro-batches on all
    devices, divided by their number (the rule of TRL's SFT trainer). So is the validation loss over all pairs.
    """

    def __init__(self, base: Any, stage3: Stage3, seed: int, steps: int = 1) -> None:
        """Puts a fresh adapter on `base`.

        Args:
            base: A causal language model of transformers.
            stage3: Settings.
            seed: Seed of the adapter's start and of the dropout.
            steps: Optimizer steps of the whole training, the length of the learning rate's schedule.

        Raises:
            UserError: If the model has none of the layers that `stage3.lora.target_modules` names.
        """
        super().__init__()
        self.save_hyperparameters({"stage3": asdict(stage3), "seed": seed, "steps": steps})
        self.stage3, self.seed, self.steps = stage3, seed, steps
        # The base's weights are not in the checkpoint; `load_state_dict` below checks what is.
        self.strict_loading = False
        torch.manual_seed(seed)
        base.config.use_cache = False
        self.model = _with_adapter(base, stage3.lora)
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.tokens = torch.zeros(())
        """Completion tokens of the step in the making, on this device."""

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum of the cross-entropy over the completions' tokens, and their number.

        Args:
            batch: `input_ids`, `attention_mask`, `labels`, each `(pairs, length)`; labels are -100 where there is no loss.
        """
        logits = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        labels = batch["labels"][:, 1:]
        loss = cross_entropy(logits[:, :-1].float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
        return loss, (labels != -100).sum()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds the dropout by step, so that a resumed run draws the same masks."""
        torch.manual_seed(derived_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One micro-batch; its loss is a sum, and `on_before_optimizer_step` divides."""
        loss, tokens = self(batch)
        self.tokens = self.tokens.to(loss.device) + tokens
        self.train_loss(loss.detach() / tokens.clamp(min=1), tokens)
        self.log("train_loss", self.train_loss, prog_bar=True, on_step=True, on_epoch=True)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divides the gradients by the tokens of the step, before they are clipped."""
        tokens = self.trainer.strategy.reduce(self.tokens, reduce_op="sum")
        # Lightning has divided by the number of micro-batches, DistributedDataParallel by that of devices.
        factor = self.trainer.accumulate_grad_batches * self.trainer.world_size / tokens.clamp(min=1)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        self.tokens = torch.zeros((), device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss on prompts that are not trained on."""
        loss, tokens = self(batch)
        self.val_loss.update(loss / tokens.clamp(min=1), tokens)
        self.log("val_loss", self.val_loss, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW over the adapter, with warm-up and cosine decay per step."""
        settings = self.stage3.optimizer
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay)
        warmup = math.ceil(self.steps * settings.warmup_share)
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes what a later start asks of a checkpoint: its validation loss, and whether epoch and training ended."""
        loss = self.trainer.callback_metrics.get("val_loss")
        callbacks = [item for item in self.trainer.callbacks if isinstance(item, EarlyStopping)]  # type: ignore[attr-defined]
        checkpoint["val_loss"] = math.nan if loss is None else float(loss)
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        checkpoint["whole"] = progress.ready >= self.trainer.num_training_batches
        checkpoint["stopped"] = any(callback.stopped_epoch for callback in callbacks)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The trained parameters alone."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if name in trained}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Loads an adapter.

        Raises:
            RunError: If its keys are not exactly those of this adapter.
        """
        expected = set(self.state_dict())
        if set(state_dict) != expected:
            missing, extra = sorted(expected - set(state_dict)), sorted(set(state_dict) - expected)
            raise RunError(
                "The checkpoint belongs to another adapter. Got "
                f"{len(missing)} missing and {len(extra)} unknown tensors, such as {(missing + extra)[0]}; delete the "
                "run's `checkpoints` folder to train anew."
            )
        return super().load_state_dict(state_dict, strict=False, assign=assign)
