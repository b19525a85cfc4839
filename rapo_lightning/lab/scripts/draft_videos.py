"""Makes and scores draft videos: the same texts and noise with several numbers of denoising steps, kept as they come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...console import say
from ...data.csv_log import CsvLog
from ...data.ids import derived_seed
from ...data.prompts import Prompt
from ...errors import RunError, UserError
from ...models import DiffusersVideoModel, ModelPool
from ...recipe import Recipe
from ...running.pool import fetch_models, open_pool, open_refiner, rewriter_checkpoints
from ...stage2.judges import Judge, build_judge, build_judges
from ...verifiers import View
from ..study.draft_statistics import JUDGE, ORACLE, Drafts
from ..study.draft_texts import candidate_texts

COLUMNS = ("prompt_id", "prompt", "kind", "text", "number", "seed", "steps", "seconds", ORACLE, JUDGE)


@dataclass(frozen=True)
class Job:
    """A video to make: a text of a prompt, and which of its videos."""

    prompt: Prompt
    kind: str
    text: str
    number: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from others with as many steps."""
        return self.prompt.id, self.kind, str(self.number)


class Bench:
    """Makes and scores draft videos with the models of a recipe."""

    def __init__(self, recipe: Recipe, judge: str, seed: int) -> None:
        """Builds the models; nothing is loaded yet.

        Args:
            recipe: The recipe.
            judge: Name of the verifier of its loop that is compared beside the evaluation's metric.
            seed: Seed of the videos.

        Raises:
            UserError: If the loop has no such verifier, or the video model is none of diffusers.
        """
        self.recipe, self.seed = recipe, seed
        self.models: ModelPool = open_pool(recipe)
        found = {item.verifier.name: item for item in build_judges(recipe)}
        if judge not in found:
            raise UserError(
                f"`--judge` must be a verifier of the recipe's loop. Got {judge!r}; name one of {', '.join(found)}."
            )
        metric = build_judge(recipe, recipe.evaluation.metric, "evaluation.metric")
        self.judges: dict[str, Judge] = {ORACLE: metric, JUDGE: found[judge]}
        if recipe.video_model["class_path"].rpartition(".")[2] != DiffusersVideoModel.__name__:
            raise UserError(
                f"Draft videos need a DiffusersVideoModel. Got {recipe.video_model['class_path']}; name another recipe."
            )

    def place(self) -> None:
        """Fetches what is needed and chooses the device."""
        fetch_models(self.recipe, further=rewriter_checkpoints(self.recipe))
        self.models.place_on(torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def rewrite(self, requests: Sequence[str]) -> list[str]:
        """What stage 1's rewriter makes of requests.

        Raises:
            UserError: If the recipe has none.
        """
        if not self.recipe.stage1.rewriter:
            raise UserError(
                "Five candidates need stage 1's rewriter. Got a recipe without; name one, or say `--candidates 2`."
            )
        return open_refiner(self.recipe.stage1.rewriter, self.recipe, self.models)(list(requests))

    def run(self, jobs: Sequence[Job], steps: int) -> list[list[object]]:
        """The rows of some videos with a number of steps; all texts of a prompt have the same noise."""
        model = self.models.video
        assert isinstance(model, DiffusersVideoModel)
        model.call["num_inference_steps"] = steps
        seeds = [derived_seed("drafts", self.seed, job.prompt.id, job.number) for job in jobs]
        begin = time.monotonic()
        videos = model.generate([job.text for job in jobs], seeds)
        seconds = (time.monotonic() - begin) / len(jobs)
        views = [
            View(
                job.prompt.text,
                job.prompt.phys_law,
                job.text,
                video,
                self.models.fps,
                self.recipe.evaluation.flow_seconds,
            )
            for job, video in zip(jobs, videos, strict=True)
        ]
        columns = [[item.score for item in judge.verifier.judge(views, self.models)] for judge in self.judges.values()]
        return [
            [job.prompt.id, job.prompt.text, job.kind, job.text, job.number, seed, steps, f"{seconds:.6f}",
             *("" if score is None else f"{score:.6g}" for score in scores)]
            for job, seed, *scores in zip(jobs, seeds, *columns, strict=True)
        ]  # fmt: skip

    def warm_up(self, job: Job, steps: Sequence[int]) -> None:
        """Makes a video with each number of steps, so that loading is in no time that is taken."""
        for number in steps:
            self.run([job], number)


def texts_of(bench: Bench, prompts: Sequence[Prompt], kinds: Sequence[str], out: Path) -> dict[str, list[str]]:
    """The candidates of each prompt by its id; those that are in `texts.csv` are taken from there."""
    log = CsvLog(out / "texts.csv", ["prompt_id", *kinds])
    found = {row[0]: row[1:] for row in log.rows()}
    missing = [prompt for prompt in prompts if prompt.id not in found]
    if missing:
        made = candidate_texts(missing, len(kinds), bench.rewrite)
        log.append([[prompt.id, *texts] for prompt, texts in zip(missing, made, strict=True)])
        found |= {prompt.id: texts for prompt, texts in zip(missing, made, strict=True)}
    return found


def make_all(bench: Bench, chunks: Sequence[Sequence[Job]], steps: Sequence[int], out: Path, minutes: float) -> None:
    """Makes the videos that `readings.csv` does not have, all numbers of steps of some prompts together.

    Raises:
        RunError: If the time is over before the end.
    """
    log, begin = CsvLog(out / "readings.csv", COLUMNS), time.monotonic()
    done = {(row[0], row[2], row[4], row[6]) for row in log.rows()}
    warm = False
    for place, chunk in enumerate(chunks, 1):
        for number in steps:
            left = [job for job in chunk if (*job.key, str(number)) not in done]
            if not left:
                continue
            if minutes and time.monotonic() - begin > minutes * 60:
                raise RunError(
                    f"The time is over. Got {place - 1} of {len(chunks)} parts; run the same command again to go on."
                )
            if not warm:
                bench.warm_up(left[0], steps)
                warm = True
            log.append(bench.run(left, number))
        say(f"{place}/{len(chunks)} ({time.monotonic() - begin:.0f} s)")


def read_drafts(out: Path, kinds: Sequence[str], steps: Sequence[int], seeds: int) -> Drafts:
    """The scores of the prompts that have all their videos.

    Raises:
        UserError: If there is none.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for row in CsvLog(out / "readings.csv", COLUMNS).rows():
        found[row[0], row[2], row[4], row[6]] = row
    keys = [(kind, str(number), str(count)) for count in steps for kind in kinds for number in range(seeds)]
    ids = [name for name in dict.fromkeys(key[0] for key in found) if all((name, *key) in found for key in keys)]
    if not ids:
        raise UserError(
            f"The report needs a prompt with all its videos. Got none in {out}; run the command without `--report`."
        )

    def scores(column: str, count: int) -> np.ndarray:
        place = COLUMNS.index(column)
        return np.array([[[float(found[i, k, str(n), str(count)][place] or "nan") for n in range(seeds)] for k in kinds]
                         for i in ids])  # fmt: skip

    def seconds(count: int) -> float:
        return float(
            np.median([float(row[COLUMNS.index("seconds")]) for key, row in found.items() if key[3] == str(count)])
        )

    by = {column: {count: scores(column, count) for count in steps} for column in (ORACLE, JUDGE)}
    return Drafts(by, {count: seconds(count) for count in steps})
