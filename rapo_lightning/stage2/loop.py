"""One round of the loop over a batch of prompts, phase by phase: generate all, look at all, rewrite all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ..data.prompts import Prompt, PromptTexts
from ..data.ranking import best_round
from ..data.records import Records
from ..data.stopping import ending
from ..data.store import Row
from ..data.videos import VideoStore
from ..models import ModelPool
from ..models.phases import phase
from ..models.usage import calls_by_item, metered
from ..prompting.examples import ExamplePool, read_examples
from ..recipe import Recipe, Stage2
from ..recipe.identity import component_identity, digest, rewrite_settings, row_hash
from ..running.pool import open_refiner
from .candidates import Proposal
from .revise import revise
from .rewrite import check_physics, rewrite, rewrite_inputs
from .row import round_row
from .screening import Judge, Screening, Take
from .strategy import SSPO, Strategy


class Loop:
    """Runs rounds; what it knows of earlier rounds is what the records say."""

    def __init__(
        self,
        recipe: Recipe,
        models: ModelPool,
        judges: Sequence[Judge],
        run_folder: Path,
        process: int | str = 0,
        start: PromptTexts | None = None,
        strategy: Strategy = SSPO,
    ) -> None:
        """Builds what a round needs beside the models.

        Args:
            recipe: The recipe.
            models: Lends the models; their files must be here, since their contents are part of the records' keys.
            judges: The recipe's verifiers.
            run_folder: Gets `records/`, `videos/` and, until they are judged, `pending/`.
            process: Name of this process among those that write there.
            start: What round 0 is made from; None takes the users' own prompts.
            strategy: How a round follows from those before it.

        Raises:
            UserError: If the examples or the fine-tuned rewriter are not usable.
        """
        self.recipe, self.models, self.start, self.strategy = recipe, models, start, strategy
        examples = read_examples(recipe.stage2.examples) if recipe.stage2.examples else []
        self.examples = ExamplePool(strategy.examples(examples))
        folder = recipe.stage2.rewriter
        self.rewriter = open_refiner(folder, recipe, models, own_base=True) if folder else None
        if self.rewriter is not None:
            self.rewriter.check_base()
        self.recipe_hash = loop_hash(recipe, strategy)
        self.records = Records(run_folder, process)
        self.screening = Screening(
            models,
            judges,
            component_identity(recipe.video_model),
            self.records,
            VideoStore(run_folder),
            recipe.stage2.flow_seconds,
            recipe.stage2.save_videos,
            draft_call=recipe.stage2.draft.call,
        )
        if recipe.stage2.draft.rounds:
            # Said now rather than by the first video.
            models.draft(recipe.stage2.draft.call)
        self._settings = digest(
            rewrite_settings(recipe) if strategy == SSPO else [rewrite_settings(recipe), strategy.name]
        )

    def run_round(self, number: int, prompts: Sequence[Prompt], histories: Sequence[Sequence[Row]]) -> list[Row]:
        """Runs one round of a batch; nothing is rewritten for a trajectory that it ends.

        Args:
            number: The round.
            prompts: The prompts, none of which has ended.
            histories: Earlier rounds of each prompt.

        Returns:
            The finished rows.
        """
        texts = [history[-1]["next_prompt"] for history in histories] if number else self._starts(prompts)
        seeds = [self.strategy.seed(self.recipe.seed, prompt.id, number) for prompt in prompts]
        draft = self.is_draft(number)
        takes = [Take(p, text, seed, number, draft) for p, text, seed in zip(prompts, texts, seeds, strict=True)]
        screened = self.screening.run(takes)
        rows = [
            round_row(take, item, self.models.names, self.recipe_hash)
            for take, item in zip(takes, screened, strict=True)
        ]
        stage2, grown = self.recipe.stage2, [[*history, row] for history, row in zip(histories, rows, strict=True)]
        for history in grown:
            history[-1]["ended"] = "" if draft else ending(history, stage2.stop, stage2.ranking)
        going = [history for history in grown if not history[-1]["ended"]]
        if going and number < stage2.rounds - 1:
            self._go_on(going)
        return rows

    def is_draft(self, number: int) -> bool:
        """Whether the videos of a round are made cheaper."""
        return number < self.recipe.stage2.draft.rounds

    def _starts(self, prompts: Sequence[Prompt]) -> list[str]:
        return self.start(prompts) if self.start else [prompt.text for prompt in prompts]

    def _go_on(self, histories: Sequence[Sequence[Row]]) -> None:
        """Fills in what the next round is made from."""
        drafts = self.recipe.stage2.draft.rounds
        if drafts and histories[0][-1]["round"] + 1 == drafts:
            for history in histories:
                history[-1]["next_prompt"] = best_round(history, self.recipe.stage2.ranking)["prompt"]
        elif self.strategy.rewrites:
            with phase("rewrite"):
                self._rewrite(histories)
        else:
            for history in histories:
                history[-1]["next_prompt"] = history[-1]["prompt"]

    def _rewrite(self, histories: Sequence[Sequence[Row]]) -> None:
        """Fills in `physics`, `next_prompt` with how it was shortened, and the time of the last row of each history."""
        stage2 = self.strategy.settings(self.recipe.stage2)
        told = [self.strategy.told(history) for history in histories]
        keys = [digest([self._settings, rewrite_inputs(history, stage2)]) for history in told]
        missing = [index for index, key in enumerate(keys) if self.records.get("rewrites", key) is None]
        if missing:
            begin = time.monotonic()
            due = [told[index] for index in missing]
            with metered() as checks:
                remarks = check_physics([h[-1] for h in due], stage2, self.models)
            for history, remark in zip(due, remarks, strict=True):
                history[-1]["physics"] = remark
            with metered() as rewrites:
                proposals = self._propose(due, stage2)
            spent = [calls_by_item(calls, by, len(due)) for calls, by in ((checks, "physics"), (rewrites, "rewrite"))]
            seconds = round((time.monotonic() - begin) / len(due), 4)
            self.records.append(
                "rewrites",
                [
                    {"key": keys[index], "prompt_id": h[-1]["prompt_id"], "round": h[-1]["round"],
                     "physics": h[-1]["physics"], "next_prompt": next_.text, "shortened": next_.shortened,
                     "seconds": seconds, "calls": [*checked, *written]}
                    for index, h, next_, checked, written in zip(missing, due, proposals, *spent, strict=True)
                ],
            )  # fmt: skip
        for key, rounds in zip(keys, histories, strict=True):
            record = self.records.get("rewrites", key) or {}
            rounds[-1]["physics"], rounds[-1]["next_prompt"] = record["physics"], record["next_prompt"]
            rounds[-1]["shortened"], rounds[-1]["seconds_rewrite"] = record.get("shortened", ""), record["seconds"]
            rounds[-1]["calls"] = [*rounds[-1]["calls"], *record.get("calls", [])]

    def _propose(self, histories: Sequence[Sequence[Row]], stage2: Stage2) -> list[Proposal]:
        if self.rewriter is not None:
            return revise(histories, stage2, self.rewriter)
        return rewrite(histories, stage2, self.models, self.examples)


def loop_hash(recipe: Recipe, strategy: Strategy = SSPO) -> str:
    """The `recipe_hash` of a loop's rows; the loop's own is that of the recipe alone."""
    return row_hash(recipe) if strategy == SSPO else digest([row_hash(recipe), strategy.name])
