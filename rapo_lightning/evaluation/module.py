"""Generates and scores final prompts in predict mode: one row per prompt, with the metric's score."""

from __future__ import annotations

import time

import lightning

from ..data.ids import derived_seed
from ..data.prompts import Prompt
from ..data.trajectory import Row, TrajectoryStore
from ..models import Residency
from ..prompting.choosing import PromptChooser
from ..recipe import Recipe
from ..stage2.loop import LoopModels
from ..verifiers import Verifier, View
from ..verifiers.flow import measure_flow


class ArmModule(lightning.LightningModule):
    """One arm of an evaluation."""

    def __init__(
        self, recipe: Recipe, models: LoopModels, metric: Verifier, store: TrajectoryStore, identity: str,
        choose: PromptChooser,
    ) -> None:  # fmt: skip
        """Takes everything from outside.

        Args:
            recipe: The recipe.
            models: Built models.
            metric: The verifier that scores.
            store: Where rows go.
            identity: Goes into the rows' `recipe_hash`.
            choose: The arm itself: prompt id to the prompt that is generated.
        """
        super().__init__()
        self.recipe, self.models, self.metric = recipe, models, metric
        self.store, self.identity, self.choose = store, identity, choose
        self.residency: Residency | None = None

    def on_predict_start(self) -> None:
        """Learns the device."""
        self.residency = Residency(self.device, self.recipe.residency)

    def predict_step(self, batch: list[Prompt], batch_idx: int) -> None:
        """Chooses, generates, scores and appends a batch."""
        assert self.residency is not None
        begin = time.monotonic()
        chosen = self.choose(batch, self.residency)
        texts = [chosen[prompt.id] for prompt in batch]
        refined = time.monotonic()
        video = self.residency.use(self.models.video)
        seeds = [derived_seed(self.recipe.evaluation.seed, prompt.id) for prompt in batch]
        frames = video.generate(texts, seeds)
        generated = time.monotonic()
        seconds = self.recipe.stage2.flow_seconds
        views = [
            View(prompt.text, prompt.phys_law, text, clip, video.fps, measure_flow(clip, video.fps, seconds))
            for prompt, text, clip in zip(batch, texts, frames, strict=True)
        ]
        judgements = self.metric.judge(views, self.residency.use(self.models.embedder))
        rows: list[Row] = []
        for prompt, text, seed, judgement in zip(batch, texts, seeds, judgements, strict=True):
            rows.append(
                {
                    "prompt_id": prompt.id,
                    "source_prompt": prompt.text,
                    "phys_law": prompt.phys_law,
                    "round": 0,
                    "prompt": text,
                    "seed": seed,
                    "video": "",
                    f"score_{self.metric.name}": judgement.score,
                    "critique": judgement.critique,
                    "physics": "",
                    "flow": [],
                    "next_prompt": "",
                    "video_model": self.models.video.name,
                    "vision_language_model": "",
                    "language_model": self.models.language.name,
                    "recipe_hash": self.identity,
                    "seconds_generate": (generated - refined) / len(batch),
                    "seconds_judge": (time.monotonic() - generated) / len(batch),
                    "seconds_rewrite": (refined - begin) / len(batch),
                }
            )
        self.store.append(rows)
