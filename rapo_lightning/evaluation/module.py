"""Generates and scores one text per prompt in predict mode: an arm of an evaluation, a branch of stage 1."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning

from datamodules import PromptDataModule

from ..data.ids import derived_seed
from ..data.prompts import Prompt, PromptTexts, RoundBatch
from ..data.records import Records
from ..data.store import Row
from ..data.trajectory import TrajectoryStore, common_columns
from ..data.videos import VideoStore
from ..models import ModelPool
from ..recipe import Recipe
from ..recipe.identity import component_identity, digest
from ..running.callbacks import RowWriter
from ..running.folder import is_main_process, write_text
from ..running.trainer import predict, predict_trainer
from ..stage2.row import round_row
from ..stage2.screening import Judge, Screening, Take

LATEST = "latest.json"
"""Beside an arm's rows: the `recipe_hash`es of the last evaluation, since rows of an earlier refiner stay."""


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

    def __init__(self, arm: Arm, screening: Screening, seed: int, identities: Sequence[str], batch_size: int) -> None:
        """Takes everything from outside.

        Args:
            arm: The arm.
            screening: Generates and scores.
            seed: Seed of the evaluation's videos.
            identities: `recipe_hash` of the rows of each video of a prompt.
            batch_size: Videos that are in memory together.
        """
        super().__init__()
        self.arm, self.screening, self.seed = arm, screening, seed
        self.identities, self.batch_size = identities, batch_size

    def on_predict_start(self) -> None:
        """Learns the device."""
        self.screening.models.place_on(self.device)

    def predict_step(self, batch: RoundBatch, batch_idx: int) -> list[Row]:
        """The rows of a batch: each prompt's text is made once, its videos once per seed."""
        begin = time.monotonic()
        texts = self.arm.texts(batch.prompts)
        seconds = (time.monotonic() - begin) / len(batch.prompts)
        made = [
            (Take(prompt, text, video_seed(self.seed, prompt, number)), identity)
            for prompt, text in zip(batch.prompts, texts, strict=True)
            for number, identity in enumerate(self.identities)
        ]
        names, rows = self.screening.models.names, []
        for start in range(0, len(made), self.batch_size):
            part = made[start : start + self.batch_size]
            found = self.screening.run([take for take, _ in part])
            rows += [round_row(take, item, names, identity) for (take, identity), item in zip(part, found, strict=True)]
        return [{**row, "seconds_rewrite": seconds} for row in rows]


def video_seed(seed: int, prompt: Prompt, number: int) -> int:
    """Seed of a prompt's video: a function of the evaluation's seed, the prompt, and which of its videos it is."""
    return derived_seed(seed, prompt.id, number) if number else derived_seed(seed, prompt.id)


def _note(path: Path, text: str) -> None:
    """Writes a file, unless it says so already: what is done changes nothing."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def score_prompts(
    recipe: Recipe, models: ModelPool, judge: Judge, folder: Path, arm: Arm, prompts: Sequence[Prompt]
) -> list[Row]:
    """Makes and scores the videos that `folder` does not have yet.

    Args:
        recipe: The recipe.
        models: The pool.
        judge: What scores.
        folder: The run folder; rows go to `evaluation/arms/<arm>`.
        arm: How a prompt becomes a text.
        prompts: The prompts.

    Returns:
        The rows of these prompts, `evaluation.seeds` of each.
    """
    settings = recipe.evaluation
    video = component_identity(recipe.video_model)
    identities = [
        digest([video, judge.identity, settings.seed, number, settings.flow_seconds, arm.name, arm.identity])
        for number in range(settings.seeds)
    ]
    place = folder / "evaluation" / "arms" / arm.name.replace(" ", "-")
    names = [judge.verifier.name]
    if is_main_process():
        names = common_columns(sorted(place.parent.glob("*/")), names)
    store = TrajectoryStore(place, names)
    trainer = predict_trainer(recipe.trainer, [RowWriter(store)])
    if is_main_process():
        store.clean()
    done = Counter(row["prompt_id"] for row in store.rows() if row["recipe_hash"] in identities)
    left = [prompt for prompt in prompts if done[prompt.id] < settings.seeds]
    if left:
        records, videos = Records(folder, trainer.global_rank), VideoStore(folder)
        screening = Screening(models, [judge], video, records, videos, settings.flow_seconds, False, record_flow=False)
        module = ArmModule(arm, screening, settings.seed, identities, recipe.stage2.batch_size)
        predict(trainer, module, PromptDataModule(left, recipe.stage2.batch_size))
        if is_main_process():
            videos.clean()
    if is_main_process():
        _note(place / LATEST, json.dumps(identities) + "\n")
    wanted = {prompt.id for prompt in prompts}
    return [row for row in store.rows() if row["recipe_hash"] in identities and row["prompt_id"] in wanted]
