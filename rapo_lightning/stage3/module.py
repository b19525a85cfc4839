"""The refiner as a LightningModule: a frozen language model with a trained LoRA adapter."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from ..data.ids import derived_seed
from ..errors import RunError
from ..recipe import Stage3

Batch = dict[str, Tensor]


def learning_rate_share(step: int, total: int, warmup_share: float) -> float:
    """Share of the peak rate at a step: linear warm-up, then cosine down to zero at `total`."""
    warmup = max(1, round(total * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


class RefinerModule(lightning.LightningModule):
    """Supervised fine-tuning; checkpoints hold the adapter alone."""

    def __init__(self, base: Any, stage3: Stage3, seed: int) -> None:
        """Puts a fresh adapter on `base`.

        Args:
            base: A causal language model of transformers.
            stage3: Settings.
            seed: Seed of the adapter's start and of the dropout.
        """
        super().__init__()
        self.stage3, self.seed = stage3, seed
        # The base's weights are not in the checkpoint; `load_state_dict` below checks what is.
        self.strict_loading = False
        torch.manual_seed(seed)
        lora = stage3.lora
        config = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.target_modules),
            task_type="CAUSAL_LM",
        )
        base.config.use_cache = False
        self.model = get_peft_model(base, config)

    def forward(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the completion's tokens."""
        loss: Tensor = self.model(**batch).loss
        return loss

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds the dropout by step, so that a resumed run draws the same masks."""
        torch.manual_seed(derived_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One micro-batch."""
        loss = self(batch)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(batch["labels"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss on prompts that are not trained on."""
        self.log("val_loss", self(batch), prog_bar=True, sync_dist=True, batch_size=len(batch["labels"]))

    def configure_optimizers(self) -> Any:
        """AdamW over the adapter, with warm-up and cosine decay per step."""
        settings = self.stage3.optimizer
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay)
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_share(step, total, settings.warmup_share)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

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
