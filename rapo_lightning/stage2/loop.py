"""One round of the loop over a batch of prompts, phase by phase: generate all, look at all, rewrite all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..data.ids import derived_seed
from ..data.prompts import Prompt
from ..data.trajectory import Row
from ..data.videos import VideoWriter
from ..errors import UserError
from ..models import Embedder, LanguageModel, Residency, VideoModel
from ..prompting.examples import ExamplePool, read_examples
from ..recipe import Recipe
from ..recipe.components import build
from ..verifiers import Verifier, View
from ..verifiers.flow import measure_flow
from .rewrite import check_physics, rewrite


@dataclass
class LoopModels:
    """Everything a round needs, built from a recipe; no weights are loaded yet."""

    video: VideoModel
    language: LanguageModel
    embedder: Embedder
    verifiers: list[Verifier]
    examples: ExamplePool

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> LoopModels:
        """Builds and checks all parts.

        Raises:
            UserError: If a part is missing, unknown or takes other arguments.
        """
        verifiers = [build(item, f"stage2.verifiers[{i}]") for i, item in enumerate(recipe.stage2.verifiers)]
        if not verifiers:
            raise UserError(
                "`stage2.verifiers` must name at least one verifier. Got none; without scores no round wins."
            )
        examples = read_examples(recipe.stage2.examples) if recipe.stage2.examples else []
        return cls(
            build(recipe.video_model, "video_model"),
            build(recipe.language_model, "language_model"),
            build(recipe.embedder, "embedder"),
            verifiers,
            ExamplePool(examples),
        )


class Loop:
    """Runs rounds; keeps nothing between them but the models."""

    def __init__(self, recipe: Recipe, models: LoopModels, residency: Residency, writer: VideoWriter | None) -> None:
        """Takes what a round needs.

        Args:
            recipe: The recipe.
            models: Built models.
            residency: Brings a model to the device.
            writer: Where videos go; None writes none.
        """
        self.recipe, self.models, self.residency, self.writer = recipe, models, residency, writer
        self.recipe_hash = recipe.row_hash()

    def first_row(self, prompt: Prompt, start: str | None = None) -> Row:
        """The row of round 0, before it is run.

        Args:
            prompt: The user's prompt.
            start: The prompt to start from, if it is not the user's own.
        """
        return self._row(prompt.text, prompt.phys_law, prompt.id, 0, start or prompt.text)

    def next_row(self, done: Row) -> Row:
        """The row that follows a finished one."""
        return self._row(
            done["source_prompt"], done["phys_law"], done["prompt_id"], done["round"] + 1, done["next_prompt"]
        )

    def _row(self, source: str, law: str, prompt_id: str, round_: int, prompt: str) -> Row:
        return {
            "prompt_id": prompt_id,
            "source_prompt": source,
            "phys_law": law,
            "round": round_,
            "prompt": prompt,
            # One seed for all rounds of a prompt, as in the authors' script: rounds differ by their prompt alone.
            "seed": derived_seed(self.recipe.seed, prompt_id),
            "video_model": self.models.video.name,
            "vision_language_model": "",
            "language_model": self.models.language.name,
            "recipe_hash": self.recipe_hash,
        }

    def run_round(self, histories: Sequence[Sequence[Row]], rows: Sequence[Row], is_last: bool) -> list[Row]:
        """Runs one round of a batch.

        Args:
            histories: Earlier rounds of each prompt.
            rows: The rows to run, from `first_row` or `next_row`.
            is_last: Whether to leave out the rewriting.

        Returns:
            The finished rows.
        """
        begin = time.monotonic()
        frames = self.residency.use(self.models.video).generate([r["prompt"] for r in rows], [r["seed"] for r in rows])
        generated = time.monotonic()
        views = self._look(rows, frames)
        judged = [self._judge(row, judgements) for row, judgements in zip(rows, self._judgements(views), strict=True)]
        for row, view in zip(judged, views, strict=True):
            row["flow"] = [list(mean) for mean in view.flow.means]
            row["video"] = ""
            if self.writer is not None:
                row["video"] = self.writer.write(row["prompt_id"], row["round"], view.frames, view.fps)
        looked = time.monotonic()
        self._rewrite(histories, judged, is_last)
        seconds = (generated - begin, looked - generated, time.monotonic() - looked)
        for row in judged:
            for name, value in zip(("generate", "judge", "rewrite"), seconds, strict=True):
                row[f"seconds_{name}"] = value / len(rows)
        return judged

    def _look(self, rows: Sequence[Row], frames: Sequence) -> list[View]:  # type: ignore[type-arg]
        fps, seconds = self.models.video.fps, self.recipe.stage2.flow_seconds
        # OpenCV releases the interpreter lock, so threads are enough.
        with ThreadPoolExecutor() as pool:
            flows = list(pool.map(lambda video: measure_flow(video, fps, seconds), frames))
        return [
            View(row["source_prompt"], row["phys_law"], row["prompt"], video, fps, flow)
            for row, video, flow in zip(rows, frames, flows, strict=True)
        ]

    def _judgements(self, views: Sequence[View]) -> list[dict[str, tuple[float | None, str]]]:
        embedder = self.residency.use(self.models.embedder)
        found: list[dict[str, tuple[float | None, str]]] = [{} for _ in views]
        for verifier in self.models.verifiers:
            for record, judgement in zip(found, verifier.judge(views, embedder), strict=True):
                record[verifier.name] = (judgement.score, judgement.critique)
        return found

    @staticmethod
    def _judge(row: Row, judgements: dict[str, tuple[float | None, str]]) -> Row:
        scores = {f"score_{name}": score for name, (score, _) in judgements.items()}
        critique = " ".join(text for _, text in judgements.values() if text)
        return {**row, **scores, "critique": critique}

    def _rewrite(self, histories: Sequence[Sequence[Row]], rows: Sequence[Row], is_last: bool) -> None:
        stage2 = self.recipe.stage2
        for row in rows:
            row["physics"] = row["next_prompt"] = ""
        if is_last:
            return
        model, embedder = self.residency.use(self.models.language), self.models.embedder
        for row, remark in zip(rows, check_physics(rows, stage2, model), strict=True):
            row["physics"] = remark
        full = [[*history, row] for history, row in zip(histories, rows, strict=True)]
        for row, prompt in zip(rows, rewrite(full, stage2, model, embedder, self.models.examples), strict=True):
            row["next_prompt"] = prompt
