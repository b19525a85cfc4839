"""The engine `trl`: the trainers of TRL, with checkpoints within epochs and the logs of the engine `lightning`."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import PrinterCallback, ProgressCallback

from datamodules import PairDataModule

from ....console import say
from ....errors import UserError
from ....running.interruption import INTERRUPTION
from ....running.pool import ROLES, fetch_models
from ...adapter import load_adapter
from ...memory import memory_told
from ...objectives import REFERENCE
from ..engine import Best, Engine, accumulation, optimization
from ..metrics import next_log
from ..plan import Plan
from .callbacks import (
    FINISHED,
    Bar,
    EndWhenAsked,
    Guard,
    Keeping,
    Metrics,
    best_weights,
    last_whole,
    mark_finished,
    read_best,
)  # fmt: skip
from .grpo import Answers, open_rewards
from .trainers import TRAINERS, own_arguments

_TAKEN = (
    "accelerator",
    "devices",
    "num_nodes",
    "precision",
    "enable_progress_bar",
    "gradient_clip_val",
    "fast_dev_run",
)
"""Options of the recipe's `trainer` that this engine follows."""
_PRECISIONS = {"32-true": {}, "32": {}, "bf16-mixed": {"bf16": True}, "16-mixed": {"fp16": True}}


class TrlEngine(Engine):
    """Trains with TRL; several devices are started by `torchrun`."""

    def __init__(self, plan: Plan) -> None:
        """Checks the recipe's `trainer`.

        Raises:
            UserError: If TRL cannot do what it says.
        """
        super().__init__(plan)
        options = plan.recipe.trainer
        further = sorted(set(options) - {*_TAKEN})
        if further:
            raise UserError(
                f"The engine `trl` takes {', '.join(_TAKEN)} of the recipe's `trainer`. Got {', '.join(further)}; leave them "
                "out, or train with `stage3.engine: lightning`."
            )
        if plan.precision not in _PRECISIONS:
            raise UserError(
                f"The engine `trl` takes a `trainer.precision` of {', '.join(_PRECISIONS)}. Got {plan.precision!r}; choose one."
            )
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        asked = options.get("devices", "auto")
        if str(asked).isdigit() and int(asked) * int(options.get("num_nodes", 1)) != self.world:
            raise UserError(
                f"The engine `trl` trains in the processes that `torchrun` started. Got `trainer.devices` {asked} in "
                f"{self.world}; start it as `torchrun --nproc_per_node {asked} -m rapo_lightning finetune ...`."
            )
        self.accumulation = accumulation(plan.recipe.stage3.optimizer, self.world)
        self.rewards = open_rewards(plan, self.world) if plan.phase.objective == "grpo" else None

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        on_cpu = self.plan.recipe.trainer.get("accelerator", "auto") == "cpu" or not torch.cuda.is_available()
        return torch.device("cpu") if on_cpu else torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))

    def is_finished(self) -> bool:
        """Whether the training came to its end."""
        return (self.plan.checkpoints / FINISHED).is_file()

    def fit(self, model: Any, data: PairDataModule) -> None:
        """Trains to the end, from the last whole checkpoint where there is one, in the middle of an epoch too.

        Args:
            model: A PEFT model, whose adapter `default` is trained.
            data: From `Plan.data`.
        """
        plan = self.plan
        objective: Any = data.form
        say(
            f"{plan.phase.objective} by TRL: {len(data.training)} training and {len(data.validation)} validation pairs, "
            f"{plan.precision}"
        )
        trainer = self._trainer(model, data, objective)
        for path in plan.checkpoints.glob("*.tmp"):
            # What a kill left of an adapter in the writing.
            path.unlink(missing_ok=True)
        last = None if plan.is_trial else last_whole(plan.checkpoints)
        with INTERRUPTION.watched(), memory_told(plan.recipe.stage3), warnings.catch_warnings():
            # Of TRL's own parts, about later versions.
            warnings.simplefilter("ignore", FutureWarning)
            if last is None and plan.phase.objective == "grpo" and plan.monitored:
                # What it begins with: the epochs are compared with that.
                trainer.evaluate()
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        if REFERENCE in model.peft_config:
            model.delete_adapter(REFERENCE)
        if trainer.is_world_process_zero() and not plan.is_trial:
            mark_finished(plan.checkpoints, {"steps": trainer.state.global_step, "epoch": trainer.state.epoch})

    def _trainer(self, model: Any, data: PairDataModule, objective: Any) -> Any:
        plan, stage3 = self.plan, self.plan.recipe.stage3
        kind, configuration = TRAINERS[plan.phase.objective]
        # Before the trainer adds a frozen copy of the adapter as its reference.
        optimizers = optimization(model, stage3.optimizer, plan.phase.lr, plan.phase.epochs * self._steps(data))
        logging.getLogger("trl").setLevel(logging.ERROR)
        # TRL warns of `rollout_func`, which may change in later versions.
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        arguments = configuration(**self._arguments(), **own_arguments(plan.phase.objective, stage3))
        # Without torchrun the trainer would spread over all visible GPUs by `DataParallel`, which TRL refuses.
        arguments._n_gpu = min(arguments.n_gpu, 1)
        trainer = kind(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(data.training),
            eval_dataset=Dataset.from_list(data.validation) if plan.monitored else None,
            processing_class=objective.tokenizer,
            optimizers=optimizers,
            **self._further(objective),
        )
        trainer.pairs, trainer.objective = data, objective
        self._place_callbacks(trainer, self._steps(data))
        return trainer

    def _further(self, objective: Any) -> dict[str, Any]:
        """What makes the batches: our collator, or for GRPO our answers."""
        if self.rewards is None:
            return {"data_collator": objective.collate}
        stage3, recipe = self.plan.recipe.stage3, self.plan.recipe
        fetch_models(recipe, [role for role in ROLES if self.rewards.uses(role)])
        self.answers = Answers(objective.tokenizer, stage3.grpo, stage3.sampling.max_new_tokens, self.rewards)
        self.answers.at_once = stage3.optimizer.micro_batch_size
        return {"reward_funcs": [self.answers.reward], "rollout_func": self.answers.rollout}

    def _steps(self, data: PairDataModule) -> int:
        """Optimizer steps of an epoch; GRPO leaves out the requests that do not fill a step."""
        settings, group = self.plan.recipe.stage3.optimizer, self.plan.recipe.stage3.grpo.group
        if self.plan.phase.objective == "grpo":
            return len(data.training) // (settings.batch_size // group)
        return data.steps

    def _place_callbacks(self, trainer: Any, epoch_steps: int) -> None:
        plan, stage3 = self.plan, self.plan.recipe.stage3
        for callback in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(callback)
        logs = plan.folder / "logs" / next_log(plan.folder, plan.identity)
        kept = Keeping(plan.checkpoints, plan.monitored, stage3.checkpoint_steps, epoch_steps, stage3.patience)
        bar = [Bar()] if plan.recipe.trainer.get("enable_progress_bar", True) else []
        for own in [
            *([] if plan.is_trial else [Metrics(logs / "metrics.csv"), kept]),
            Guard(plan.phase.lr),
            EndWhenAsked(),
            *bar,
        ]:
            trainer.add_callback(own)
        if plan.phase.objective == "grpo":
            trainer.answers, trainer.table = self.answers, None if plan.is_trial else logs / "answers.csv"

    def _arguments(self) -> dict[str, Any]:
        """The arguments that all of TRL's configurations share."""
        plan = self.plan
        settings, options = plan.recipe.stage3.optimizer, plan.recipe.trainer
        on_cpu = self.device.type == "cpu"
        return {
            "output_dir": str(plan.checkpoints),
            "per_device_train_batch_size": settings.micro_batch_size,
            "per_device_eval_batch_size": settings.micro_batch_size,
            "gradient_accumulation_steps": self.accumulation,
            "num_train_epochs": plan.phase.epochs,
            "max_steps": int(options["fast_dev_run"]) if plan.is_trial else -1,
            "learning_rate": plan.phase.lr,
            "max_grad_norm": options.get("gradient_clip_val", settings.clip),
            "seed": plan.recipe.seed,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            # `Keeping` asks for both.
            "save_strategy": "no",
            "eval_strategy": "no",
            "save_total_limit": 2,
            "remove_unused_columns": False,
            "gradient_checkpointing": False,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": on_cpu,
            "dataloader_pin_memory": not on_cpu,
            # TRL would choose bfloat16 where the recipe says float32.
            "bf16": False,
            **_PRECISIONS[plan.precision],
        }

    def best(self) -> Best:
        """The epoch with the best validation, the last one where there is none.

        Raises:
            RunError: If its checkpoint is damaged.
        """
        return Best(*read_best(self.plan.checkpoints))

    def restore(self, model: Any) -> None:
        """Puts the weights of the best epoch into the adapter `default` of a PEFT model.

        Raises:
            RunError: If its checkpoint is damaged, or belongs to another adapter.
        """
        load_adapter(model, best_weights(self.plan.checkpoints))

    def barrier(self) -> None:
        """Waits until all processes of the training have come here."""
        if self.world > 1:
            PartialState().wait_for_everyone()
