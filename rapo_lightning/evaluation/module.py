"""Generates and scores one text per prompt in predict mode: an arm of an evaluation, a branch of stage 1."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning

from datamodules import PromptDataModule

from ..data.ids import derived_seed
from ..data.prompts import Prompt, PromptTexts, RoundBatch
from ..data.records import Records
from ..data.store import Row
from ..data.trajectory import TrajectoryStore
from ..data.videos import VideoStore
from ..models import ModelPool
from ..recipe import Recipe
from ..recipe.identity import component_identity, digest
from ..running.callbacks import RowWriter
from ..running.folder import is_main_process
from ..running.trainer import predict, predict_trainer
from ..stage2.screening import Judge, Screening, Take, round_row


@dataclass(frozen=True)
class Arm:
    """What is compared: how a prompt becomes the text that its video is made from.

    Attributes:
        name: Its name.
        texts: The arm itself.
        identity: What decides its texts; None where they are fixed, and the text itself says all.
    """

    name: str
    texts: PromptTexts
    identity: object = None


class ArmModule(lightning.LightningModule):
    """Chooses, generates and scores batches of prompts."""

    def __init__(self, arm: Arm, screening: Screening, seed: int, identity: str) -> None:
        """Takes everything from outside.

        Args:
            arm: The arm.
            screening: Generates and scores.
            seed: Seed of the evaluation's videos.
            identity: The rows' `recipe_hash`.
        """
        super().__init__()
        self.arm, self.screening, self.seed, self.identity = arm, screening, seed, identity

    def on_predict_start(self) -> None:
        """Learns the device."""
        self.screening.models.place_on(self.device)

    def predict_step(self, batch: RoundBatch, batch_idx: int) -> list[Row]:
        """The rows of a batch."""
        begin = time.monotonic()
        texts = self.arm.texts(batch.prompts)
        seconds = (time.monotonic() - begin) / len(batch.prompts)
        takes = [Take(p, text, derived_seed(self.seed, p.id)) for p, text in zip(batch.prompts, texts, strict=True)]
        names = self.screening.models.names
        found = zip(takes, self.screening.run(takes), strict=True)
        rows = [round_row(take, item, names, self.identity) for take, item in found]
        return [{**row, "seconds_rewrite": seconds} for row in rows]


def score_prompts(
    recipe: Recipe, models: ModelPool, judge: Judge, folder: Path, arm: Arm, prompts: Sequence[Prompt]
) -> list[Row]:
    """Makes and scores the videos that `folder` does not have yet.

    Args:
        recipe: The recipe.
        models: The pool.
        judge: What scores.
        folder: The run folder; rows go to `evaluation/arms`.
        arm: How a prompt becomes a text.
        prompts: The prompts.

    Returns:
        The rows of these prompts.
    """
    settings = recipe.evaluation
    video = component_identity(recipe.video_model)
    identity = digest([video, judge.identity, settings.seed, settings.flow_seconds, arm.name, arm.identity])
    store = TrajectoryStore(folder / "evaluation" / "arms", [judge.verifier.name])
    trainer = predict_trainer(recipe.trainer, [RowWriter(store)])
    if is_main_process():
        store.clean()
    done = {row["prompt_id"] for row in store.rows(identity)}
    left = [prompt for prompt in prompts if prompt.id not in done]
    if left:
        records, videos = Records(folder, trainer.global_rank), VideoStore(folder)
        screening = Screening(models, [judge], video, records, videos, settings.flow_seconds, False, record_flow=False)
        module = ArmModule(arm, screening, settings.seed, identity)
        predict(trainer, module, PromptDataModule(left, recipe.stage2.batch_size))
        if is_main_process():
            videos.clean()
    wanted = {prompt.id for prompt in prompts}
    return [row for row in store.rows(identity) if row["prompt_id"] in wanted]
