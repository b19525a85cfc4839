"""Group relative policy optimization: no targets, but rewards of the refiner's own answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal

from datamodules.pairs import Batch, Tokens

from ...errors import UserError
from ...models.chat_template import encode_conversations
from ...models.reward_model import read_reward_folder
from ...recipe import Recipe, Stage3
from ...recipe.identity import strip_layout
from .base import Engine, Objective


class Grpo(Objective):
    """Group relative policy optimization (arXiv:2402.03300) of requests' answers, by the rewards of `stage3.grpo`."""

    name: ClassVar[str] = "grpo"
    view: ClassVar[Literal["sft", "preference", "unpaired", "requests"]] = "requests"
    engines: ClassVar[tuple[Engine, ...]] = ("trl",)
    wants: ClassVar[str] = "requests alone"
    dropout: ClassVar[bool] = False
    monitor: ClassVar[tuple[str, Literal["min", "max"]] | None] = ("val_reward", "max")

    @classmethod
    def check(cls, stage3: Stage3, rows: Sequence[Mapping[str, Any]]) -> None:
        """Looks whether whole groups make a step.

        Raises:
            UserError: If they do not, or there are fewer requests than a step has.
        """
        size, group = stage3.optimizer.batch_size, stage3.grpo.group
        if size % group:
            raise UserError(
                "`stage3.objective: grpo` needs whole groups in a step: `stage3.optimizer.batch_size` must be a multiple of "
                f"`stage3.grpo.group`. Got {size} and {group}; change one of them."
            )
        if len(rows) < size // group:
            raise UserError(
                f"`stage3.objective: grpo` takes {size // group} requests a step (`stage3.optimizer.batch_size` over "
                f"`stage3.grpo.group`). Got {len(rows)} to train on; lower the batch, or collect more."
            )

    @classmethod
    def made_of(cls, recipe: Recipe) -> Any:
        """The models and verifiers that rewards may ask, and the trainings of reward models."""
        models = [strip_layout(part) for part in (recipe.video_model, recipe.vision_language_model, recipe.embedder)]
        folders = [
            item["folder"] for item in recipe.stage3.grpo.rewards if item["reward"] == "model" and "folder" in item
        ]
        trained = [read_reward_folder(folder)[1].training for folder in folders]
        longest = recipe.stage3.sampling.max_new_tokens
        return [longest, models, recipe.stage2.verifiers, asdict(recipe.stage2.ranking), recipe.stage3.reader, trained]

    def examples(self, rows: Sequence[Mapping[str, Any]], training: bool) -> list[Tokens]:
        """`prompt`, the conversation, and its tokens `prompt_ids`."""
        prompts = [row["prompt"] for row in rows]
        ids = encode_conversations(self.tokenizer, prompts, True)
        return [{"prompt": turns, "prompt_ids": tokens} for turns, tokens in zip(prompts, ids, strict=True)]

    def length(self, example: Tokens) -> int:
        """Tokens of the request and of the longest answer."""
        return len(example["prompt_ids"]) + self.stage3.sampling.max_new_tokens

    def blank(self, example: Tokens) -> Tokens:
        """Never used: TRL's trainer has whole groups alone."""
        raise NotImplementedError("GRPO has no examples that fill up a share.")

    def collate(self, examples: Sequence[Tokens]) -> Batch:
        """Never used: TRL's trainer makes batches of the answers."""
        raise NotImplementedError("GRPO makes its batches of the answers.")
