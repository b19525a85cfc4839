"""`evaluate`: the arms on held-out prompts, with intervals."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from ..console import say
from ..data.prompts import Prompt, read_prompts
from ..data.resources import find
from ..data.trajectory import best_round, by_prompt
from ..errors import UserError
from ..evaluation.arms import ArmResult, scores_in_order, summarize, table
from ..models import Residency
from ..prompting.choosing import PromptChooser, choose_from
from ..recipe import Recipe, digest, named, strip_layout
from ..recipe.components import build
from ..stage1.align import AlignModels
from ..stage2.loop import LoopModels
from ..stage3.refiner import Refiner
from ..verifiers import Verifier
from .align import align_prompts
from .collect import run_loop
from .common import fetch_models, run_folder, save_recipe, write_text
from .refine import open_refiner
from .scoring import score_prompts


class Evaluator:
    """Runs arms one after another on the same prompts and seeds, with models that are loaded once."""

    def __init__(self, recipe: Recipe, folder: Path, prompts: list[Prompt], refiner: Refiner | None) -> None:
        """Builds the models; nothing is loaded yet."""
        self.recipe, self.prompts, self.refiner = recipe, prompts, refiner
        self.folder = folder / "evaluation"
        self.metric: Verifier = build(recipe.evaluation.metric, "evaluation.metric")
        self.models = LoopModels.from_recipe(recipe)
        # The loop of an arm runs on the evaluation's seeds, so that its videos are those the other arms compare with.
        stage2 = dataclasses.replace(recipe.stage2, save_videos=False)
        self.loop_recipe = dataclasses.replace(recipe, seed=recipe.evaluation.seed, stage2=stage2)
        self.align_models = AlignModels.from_recipe(recipe) if needs_stage1(recipe) else None

    def _refined(self, batch: Sequence[Prompt], residency: Residency) -> dict[str, str]:
        assert self.refiner is not None
        residency.use(self.refiner.model)
        return dict(zip([prompt.id for prompt in batch], self.refiner([p.text for p in batch]), strict=True))

    def _refiner_hash(self) -> str:
        """Identity of the adapter, so that rows of an older one are not taken for those of this one."""
        if self.refiner is None:
            return ""
        found = find(Path(self.refiner.model.adapter) / "adapter_model.safetensors")
        assert found is not None
        return hashlib.sha256(found.read_bytes()).hexdigest()[:16]

    def _identity(self, arm: str) -> str:
        evaluation = self.recipe.evaluation
        parts = [self.recipe.row_hash(), strip_layout(named(evaluation.metric)), evaluation.seed, arm]
        if "refiner" in arm:
            parts.append(self._refiner_hash())
        if arm == "stage1":
            parts.append(self.recipe.align_hash())
        return digest(parts)

    def _aligned(self) -> tuple[PromptChooser, float]:
        """Runs stage 1; returns its prompts and the seconds per prompt."""
        assert self.align_models is not None
        rows = align_prompts(self.recipe, self.prompts, self.folder / "aligned", self.align_models)
        spent = sum(row[f"seconds_{part}"] for row in rows.values() for part in ("retrieve", "merge", "rewrite"))
        return choose_from({identity: row["prompt"] for identity, row in rows.items()}), spent / len(rows)

    def _loop(self, arm: str) -> tuple[PromptChooser, float]:
        """Runs the loop of an arm; returns its winners and the seconds per prompt."""
        uses_refiner = arm.startswith("refiner")
        name = f"loop-{self._identity(arm)}"
        starter: PromptChooser | None = self._refined if uses_refiner else None
        before = 0.0
        if starter is None and self.recipe.stage2.start == "stage1":
            starter, before = self._aligned()
        store = run_loop(self.loop_recipe, self.prompts, self.folder / name, self.models, starter)
        rows = store.rows(self.loop_recipe.row_hash())
        winners = {identity: best_round(rounds)["prompt"] for identity, rounds in by_prompt(rows).items()}
        spent = sum(row[f"seconds_{part}"] for row in rows for part in ("generate", "judge", "rewrite"))
        return choose_from(winners), before + spent / len(self.prompts)

    def run(self, arm: str) -> ArmResult:
        """Runs one arm to its end and scores it."""
        loop_seconds = align_seconds = 0.0
        choose: PromptChooser
        if arm == "raw":
            choose = choose_from({prompt.id: prompt.text for prompt in self.prompts})
        elif arm == "reference":
            choose = choose_from({prompt.id: prompt.reference for prompt in self.prompts})
        elif arm == "refiner":
            choose = self._refined
        elif arm == "stage1":
            choose, align_seconds = self._aligned()
        else:
            choose, loop_seconds = self._loop(arm)
        rows = score_prompts(
            self.recipe, self.models, self.metric, self.folder / "arms", self._identity(arm), self.prompts, choose
        )
        rounds = self.recipe.stage2.rounds
        looped = arm.endswith("sspo")
        # A loop's winner was generated in the loop already; generating it again for the metric is not its cost.
        own = sum(row["seconds_generate"] + row["seconds_rewrite"] for row in rows) / len(rows)
        seconds = loop_seconds or align_seconds + own
        scores = scores_in_order(rows, [prompt.id for prompt in self.prompts], self.metric.name)
        return ArmResult(f"{arm}@{rounds}" if looped else arm, scores, rounds if looped else 1, seconds)


def needs_stage1(recipe: Recipe) -> bool:
    """Whether an arm runs stage 1."""
    arms = recipe.evaluation.arms
    return "stage1" in arms or (recipe.stage2.start == "stage1" and "sspo" in arms)


def check_arms(recipe: Recipe, prompts: Sequence[Prompt]) -> None:
    """Raises UserError if an arm lacks what it needs."""
    if "reference" in recipe.evaluation.arms and not all(prompt.reference for prompt in prompts):
        raise UserError(
            "The arm `reference` needs a column `reference` with text in every row of the held-out prompts. Got prompts "
            "without; add the column or leave the arm out of `evaluation.arms`."
        )


def evaluate(recipe: Recipe, recipe_yaml: str, out: str) -> dict[str, object]:
    """Evaluates all arms; run again it goes on where it stopped.

    Returns:
        The contents of `results.json`.
    """
    prompts = read_prompts(recipe.evaluation.prompts, recipe.evaluation.limit, "evaluation.prompts")
    check_arms(recipe, prompts)
    folder = run_folder(recipe, out)
    needs_refiner = any("refiner" in arm for arm in recipe.evaluation.arms)
    refiner = (
        open_refiner(recipe, folder, int(recipe.language_model.get("init_args", {}).get("batch_size", 16)))
        if needs_refiner
        else None
    )
    evaluator = Evaluator(recipe, folder, prompts, refiner)
    fetch_models(recipe)
    save_recipe(recipe_yaml, folder)
    results = []
    for arm in recipe.evaluation.arms:
        say(f"arm {arm}")
        results.append(evaluator.run(arm))
    summary = summarize(results, evaluator.metric.name, recipe.row_hash())
    _write_results(folder, summary)
    return summary


@rank_zero_only
def _write_results(folder: Path, summary: dict[str, object]) -> None:
    write_text(folder / "results.json", json.dumps(summary, indent=2) + "\n")
    print(table(summary))
