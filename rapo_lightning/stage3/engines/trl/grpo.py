"""TRL's GRPO with answers as the refiner gives them, and requests that stay unrefined in each group."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from trl import GRPOTrainer

from datamodules import PairDataModule

from ....errors import UserError
from ....models.chat_template import encode_conversations, encode_pairs
from ....prompting.answers import Refined, read_answer
from ....prompting.chat import Messages
from ....recipe.objectives import Grpo as Settings
from ....recipe.pairs import build_reader, build_rewards
from ....running.pool import ROLES, open_pool
from ...objectives import Objective
from ...rewards import RewardTools, WeightedRewards
from ..plan import Plan


def open_rewards(plan: Plan, world: int) -> WeightedRewards:
    """The rewards of a recipe and the models that they use, none of which is loaded.

    Args:
        plan: The training.
        world: Number of devices.

    Raises:
        UserError: If one of both is not usable, or a group does not lie on one device.
    """
    recipe, settings = plan.recipe, plan.recipe.stage3
    if settings.optimizer.batch_size // world % settings.grpo.group:
        raise UserError(
            "`stage3.objective: grpo` keeps a group on one device: `stage3.optimizer.batch_size` over the devices must be a "
            f"multiple of `stage3.grpo.group`. Got {settings.optimizer.batch_size}, {world} and {settings.grpo.group}; change "
            "one of them."
        )
    parts = build_rewards(settings)
    roles = [role for role in ROLES if any(role in part.uses for part, _ in parts) and role != "language_model"]
    return WeightedRewards(parts, RewardTools(recipe, plan.folder, open_pool(recipe, roles), build_reader(settings)))


class GroupOrder(Sampler[int]):
    """Each request of an epoch so often as its group is large, the requests of a step together.

    As TRL's own, but a function of the seed and of `set_epoch` alone: TRL's draws on from the epoch before, so that a training
    which goes on in a later one would see another order.
    """

    def __init__(self, size: int, per_step: int, group: int, repeats: int, seed: int) -> None:
        """Takes what the order is made of.

        Args:
            size: Number of requests.
            per_step: Requests of a step; those that do not fill one are left out.
            group: Answers to each.
            repeats: How often a step's are handed out, once for each of its micro-batches.
            seed: Seed of the order.
        """
        self.size, self.per_step, self.group, self.repeats, self.seed = size, per_step, group, repeats, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch is next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Indices of requests."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.size, generator=generator).tolist()
        for start in range(0, self.size - self.per_step + 1, self.per_step):
            for _ in range(self.repeats):
                for place in order[start : start + self.per_step]:
                    yield from [place] * self.group

    def __len__(self) -> int:
        """Number of indices."""
        return self.size // self.per_step * self.per_step * self.group * self.repeats


class Answers:
    """Makes the answers of a policy, some of each group unrefined, and rewards them."""

    def __init__(self, tokenizer: Any, settings: Settings, longest: int, rewards: WeightedRewards) -> None:
        """Takes how answers are made.

        Args:
            tokenizer: A chat tokenizer that pads on the left.
            settings: Groups and temperature.
            longest: Most tokens of an answer.
            rewards: What they are rewarded by.
        """
        self.tokenizer, self.settings, self.longest, self.rewards = tokenizer, settings, longest, rewards
        self.at_once = 16
        """Answers that are made at once."""

    def sampled(
        self, model: Any, prompts: Sequence[Messages], temperature: float
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of conversations and of one answer to each, which ends with the end-of-turn token unless it is too long.

        Args:
            model: The policy.
            prompts: Conversations.
            temperature: 0 takes the likeliest token.
        """
        ids, answers = encode_conversations(self.tokenizer, prompts, True), []
        for start in range(0, len(ids), self.at_once):
            answers += self._generated(model, ids[start : start + self.at_once], temperature)
        return ids, answers

    def _generated(self, model: Any, ids: list[list[int]], temperature: float) -> list[list[int]]:
        padded = self.tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt").to(model.device)
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature:
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        end = self.tokenizer.eos_token_id
        with torch.no_grad():
            made = model.generate(
                **padded, max_new_tokens=self.longest, use_cache=True, eos_token_id=end,
                pad_token_id=self.tokenizer.pad_token_id, **sampling,
            )  # fmt: skip
        answers = made[:, padded["input_ids"].shape[1] :].tolist()
        return [answer[: answer.index(end) + 1] if end in answer else answer for answer in answers]

    def rollout(self, prompts: list[Messages], trainer: Any) -> dict[str, Any]:
        """What TRL asks for: answers of whole groups, in which the last ones are the request itself and have no loss."""
        group, unrefined = self.settings.group, self.settings.unrefined
        kept = [place for place in range(len(prompts)) if place % group >= group - unrefined]
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        with trainer.accelerator.autocast():
            ids, answers = self.sampled(model, prompts, self.settings.temperature)
        asked = [prompts[place] for place in kept]
        said = encode_pairs(self.tokenizer, asked, [[{**turns[-1], "role": "assistant"}] for turns in asked])
        for place, (_, request) in zip(kept, said, strict=True):
            answers[place] = request
        mask = [[int(place not in set(kept))] * len(answer) for place, answer in enumerate(answers)]
        return {"prompt_ids": ids, "completion_ids": answers, "logprobs": None, "env_mask": mask}

    def refined(self, prompts: Sequence[Messages], texts: Sequence[str]) -> list[Refined]:
        """Answers as `Refiner` would give them."""
        return [read_answer(turns[-1]["content"], text) for turns, text in zip(prompts, texts, strict=True)]

    def reward(self, prompts: list[Messages], completions: list[Messages], **further: Any) -> list[float]:
        """What TRL asks of a reward function: the sum of the recipe's rewards."""
        each = self.rewards.each(self.refined(prompts, [turns[-1]["content"] for turns in completions]))
        for name, values in each.items():
            further["log_metric"](f"reward_{name}", sum(values) / max(len(values), 1))
        return self.rewards.total(each)


class GrpoTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL computes the loss; validation is the mean reward of the likeliest answers to held-out requests."""

    pairs: PairDataModule
    num_generations: int
    objective: Objective
    answers: Answers
    table: Path | None = None
    """Where answers to the held-out requests are written, with their rewards."""

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        # Within a step each of its micro-batches is handed the whole step, of which TRL takes its part.
        repeats = self.num_iterations * self.args.steps_per_generation
        per_step = self.args.generation_batch_size // self.num_generations
        return GroupOrder(len(self.pairs.training), per_step, self.num_generations, repeats, self.pairs.seed)

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Answers the held-out requests and reports the mean reward."""
        share = self.pairs.validation[self.accelerator.process_index :: self.accelerator.num_processes]
        prompts = [example["prompt"] for example in share]
        self.model.eval()
        with self.accelerator.autocast():
            _, made = self.answers.sampled(self.model, prompts, 0.0)
        texts = self.answers.tokenizer.batch_decode(made, skip_special_tokens=True)
        refined = self.answers.refined(prompts, texts)
        each = self.answers.rewards.each(refined)
        total = self.answers.rewards.total(each)
        self._write(refined, each, total)
        sums = torch.tensor([sum(total), len(total)], dtype=torch.float64, device=self.accelerator.device)
        summed, count = self.accelerator.reduce(sums, "sum").tolist()
        metrics = {f"{metric_key_prefix}_reward": summed / max(count, 1)}
        self.model.train()
        self.log(dict(metrics))
        trainer: Any = self
        trainer.control = trainer.callback_handler.on_evaluate(self.args, self.state, trainer.control, metrics)
        return metrics

    def _write(self, refined: Sequence[Refined], each: dict[str, list[float]], total: Sequence[float]) -> None:
        if self.table is None or not self.accelerator.is_main_process:
            return
        self.table.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.table.is_file()
        with self.table.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["step", "request", "prompt", "reason", "reward", *each])
            for place, item in enumerate(refined):
                values = [total[place], *(values[place] for values in each.values())]
                writer.writerow([self.state.global_step, item.prompt, item.refined, item.reason, *values])
